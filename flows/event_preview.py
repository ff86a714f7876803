"""What the event chains of a group say, before anything is processed: frames are counted in the files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flows.event_chains import CollectionEvents, collection_events
from flows.image_paths import with_image_paths
from flows.job_of_request import files_of
from flows.messages import one_line
from flows.permissions import check_files
from flows.settings import SiteSettings
from ispyb_io.records import DataCollection, DataCollectionGroup
from ssx_processing.errors import EventChainError, SettingsError, SsxError
from ssx_processing.formats.frames import FrameSet
from ssx_processing.formats.whole_file import whole_file


@dataclass(frozen=True)
class EventPreview:
    """Events of a data collection, and how its frames were counted."""

    events: CollectionEvents
    n_frames: int
    counted: str
    """Where the number of frames is from, in words."""
    files: tuple[str, ...] = ()
    """File of each frame, as the chunks' tables name it; empty where the files cannot be read."""


def preview_events(
    group: DataCollectionGroup, collection_id: int | None, site: SiteSettings
) -> list[EventPreview]:
    """Events of all data collections of a group, or of one.

    Raises
    ------
    SettingsError
        There is no such data collection.
    """
    ids = [c.data_collection_id for c in group.data_collections]
    if not ids or (collection_id is not None and collection_id not in ids):
        has = f"it has {', '.join(map(str, ids))}" if ids else "it has none yet"
        wanted = "data collections" if collection_id is None else f"data collection {collection_id}"
        raise SettingsError(f"group {group.group_id} has no {wanted}; {has}")
    return [
        _preview(collection, group, site)
        for collection in group.data_collections
        if collection_id in (None, collection.data_collection_id)
    ]


def _preview(collection: DataCollection, group: DataCollectionGroup, site: SiteSettings) -> EventPreview:
    try:
        files = _files_of_frames(collection, group, site)
    except (SsxError, OSError) as error:
        n = collection.n_images or 0
        counted = f"numberOfImages in ISPyB, as the files cannot be read ({one_line(error)})"
        if n < 1:
            reason = f"the number of frames is not known: ISPyB has no numberOfImages, and {one_line(error)}"
            return EventPreview(CollectionEvents(collection, None, reason), 0, counted)
        return EventPreview(collection_events(collection, group, n), n, counted)
    n, record = len(files), collection.n_images
    counted = "in the files"
    if record is not None and record != n:
        counted += f"; numberOfImages in ISPyB is {record}"
    return EventPreview(collection_events(collection, group, n), n, counted, files)


def _files_of_frames(
    collection: DataCollection, group: DataCollectionGroup, site: SiteSettings
) -> tuple[str, ...]:
    alone = group.model_copy(update={"data_collections": (collection,)})
    (collection,) = with_image_paths(alone, site).data_collections
    paths = [path.resolve() for path in files_of(collection)]
    check_files(site, group.proposal, paths, geometry_file=site.geometry_file)
    with FrameSet(paths, site.geometry_file) as frames:
        return tuple(str(frames.locate(frame)[0]) for frame in range(frames.n_frames))


def raise_if_refused(previews: Sequence[EventPreview]) -> None:
    """Raise if the frames of a data collection have no table.

    Raises
    ------
    EventChainError
        With the reason of each.
    """
    refused = [f"{p.events.title}: {p.events.refused}" for p in previews if p.events.table is None]
    if refused:
        raise EventChainError("; ".join(refused))


def write_events_csv(previews: Sequence[EventPreview], path: Path) -> None:
    """Write the tables of all data collections as merging.subset_table takes them.

    Raises
    ------
    EventChainError
        There are several data collections, and the files of one cannot be read: their frames could not be
        told apart.
    """
    tables = [preview.events.table.frames for preview in previews if preview.events.table is not None]
    if len(tables) > 1:
        for preview in previews:
            if not preview.files:
                raise EventChainError(
                    f"{path}: not written, as the files of {preview.events.title} cannot be read and frames "
                    "of several data collections are told apart by their files; give one with --collection"
                )
        tables = [
            table.assign(file=list(preview.files)) for table, preview in zip(tables, previews, strict=True)
        ]
    with whole_file(path) as temporary:
        pd.concat(tables, ignore_index=True).to_csv(temporary, index=False)
