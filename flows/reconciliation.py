"""What ISPyB's records and the files on disk do not agree about, each with what to do.

Nothing here is an error: groups are processed as well as it goes. People would like to know before.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from flows.event_chains import collection_events
from flows.image_paths import NUMBER_IN_TEMPLATE, files_like, with_image_paths
from flows.job_of_request import files_of
from flows.messages import one_line
from flows.permissions import NotAllowedError, check_files
from flows.settings import SiteSettings
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES
from ispyb_io.records import DataCollection, DataCollectionGroup, Record
from ispyb_io.survey import Overlooked
from ssx_processing.errors import SsxError
from ssx_processing.formats.frames import FrameSet

MOST_NAMES = 3
DATA_FILE = re.compile(r"_data_\d+\.")


class Finding(Record):
    """One disagreement."""

    kind: str
    """For programs, e.g. no-cell."""
    group_id: int | None
    data_collection_id: int | None = None
    what: str
    advice: str


def findings_of_group(group: DataCollectionGroup, site: SiteSettings, *, with_files: bool) -> list[Finding]:
    """What is wrong or missing in the record of a group, and between it and the files."""
    found = list(_of_record(group))
    for collection in group.data_collections:
        found += _of_collection(group, collection)
        if with_files:
            found += _of_files(group, collection, site)
    return found


def may_look(directory: Path | None, proposal: str, site: SiteSettings) -> bool:
    """Whether a run of this proposal could open files in this directory."""
    try:
        check_files(site, proposal, others=[] if directory is None else [directory])
    except NotAllowedError:
        return False
    return True


def _finding(
    kind: str, group: DataCollectionGroup, collection: DataCollection | None, what: str, advice: str
) -> Finding:
    id_ = collection.data_collection_id if collection else None
    return Finding(kind=kind, group_id=group.group_id, data_collection_id=id_, what=what, advice=advice)


def _of_record(group: DataCollectionGroup) -> Iterator[Finding]:
    if group.experiment_type not in SSX_EXPERIMENT_TYPES:
        what = f"experimentType is {group.experiment_type!r}; it is taken up, but pages do not know it"
        yield _finding(
            "misspelt-type", group, None, what, f"correct it to one of {', '.join(SSX_EXPERIMENT_TYPES)}"
        )
    if not group.data_collections:
        yield _finding("empty", group, None, "it has no data collections", "nothing can be processed yet")
    sample = group.sample
    if sample is None:
        advice = "link the sample to the group in ISPyB; until then the cell is sought in the images"
        yield _finding("no-sample", group, None, "it has no sample", advice)
    elif sample.unit_cell is None:
        advice = "enter the cell with the crystal, or give --cell; else it is sought in the images"
        yield _finding("no-cell", group, None, f"sample {sample.name!r} has no unit cell", advice)
    if sample is not None and sample.space_group is None:
        advice = "enter it with the crystal, or give --space-group; else the lattice's symmetry is taken"
        yield _finding("no-space-group", group, None, f"sample {sample.name!r} has no space group", advice)


def _of_collection(group: DataCollectionGroup, collection: DataCollection) -> Iterator[Finding]:
    if collection.image_directory is None or not collection.file_template:
        missing = "imageDirectory" if collection.image_directory is None else "fileTemplate"
        yield _finding(
            "no-path",
            group,
            collection,
            f"its {missing} is empty",
            "enter it, or say where files lie (SSX_IMAGE_PATH_TEMPLATES); else none are known",
        )
    if collection.end_time is None:
        advice = "the files alone tell when it is over; it is taken up once they no longer change"
        yield _finding("no-end-time", group, collection, "its endTime is empty", advice)


def _of_files(
    group: DataCollectionGroup, collection: DataCollection, site: SiteSettings
) -> Iterator[Finding]:
    alone = group.model_copy(update={"data_collections": (collection,)})
    try:
        (collection,) = with_image_paths(alone, site).data_collections
        if collection.image_directory is None or not collection.file_template:
            return
        check_files(site, group.proposal, others=[collection.image_directory])
        paths = files_of(collection)
        check_files(site, group.proposal, paths)
        with FrameSet(paths) as frames:
            n_frames = frames.n_frames
    except (SsxError, OSError) as error:
        yield _finding("files", group, collection, one_line(error), "it cannot be processed like this")
        return
    if collection.n_images != n_frames:
        said = "is empty" if collection.n_images is None else f"says {collection.n_images}"
        what = f"numberOfImages {said}, the files have {n_frames} frames"
        advice = "the files are processed; correct the record, by which pages compute rates"
        yield _finding("number-of-images", group, collection, what, advice)
    yield from _of_events(group, collection, n_frames)


def _of_events(group: DataCollectionGroup, collection: DataCollection, n_frames: int) -> Iterator[Finding]:
    """Event chains that say nothing of the frames, or what must be known of them."""
    if not collection.event_chains:
        return
    events = collection_events(collection, group, n_frames)
    advice = f"see ssx events {group.group_id}; subsets by laser, delay or dose rest on this"
    sentences = [events.refused] if events.refused else events.table.warnings if events.table else ()
    for sentence in sentences:
        yield _finding("event-chain", group, collection, sentence, advice)


def findings_of_overlooked(overlooked: Iterable[Overlooked]) -> Iterator[Finding]:
    """Data collections that look serial but are called something else."""
    for suspect in overlooked:
        yield Finding(
            kind="wrong-type",
            group_id=suspect.group_id,
            data_collection_id=suspect.data_collection_id,
            what=f"experimentType is {suspect.experiment_type or 'empty'}, though {suspect.why}",
            advice=f"if it is serial, correct it, or run ssx process --group {suspect.group_id}",
        )


def files_without_record(
    groups: Iterable[DataCollectionGroup],
    site: SiteSettings,
    templates_in: Callable[[list[Path]], Mapping[Path, set[str]]],
) -> Iterator[Finding]:
    """Files named as those of a group, in the same directory, that no record in ISPyB names.

    Parameters
    ----------
    templates_in
        File templates of all records with these directories.
    """
    naming: dict[Path, dict[re.Pattern[str], DataCollectionGroup]] = {}
    for group in groups:
        for collection in group.data_collections:
            directory = collection.image_directory
            if directory and collection.file_template and may_look(directory, group.proposal, site):
                patterns = naming.setdefault(directory, {})
                patterns.setdefault(same_naming(collection.file_template), group)
    known = templates_in(list(naming))
    for directory, patterns in naming.items():
        if not directory.is_dir():
            continue
        recorded = [files_like(template) for template in known.get(directory, ())]
        names = [n for n in _names(directory) if not any(record.fullmatch(n) for record in recorded)]
        for pattern, group in patterns.items():
            strays = [name for name in names if pattern.fullmatch(name)]
            if strays:
                yield _stray(directory, strays, group)


def _names(directory: Path) -> list[str]:
    names = sorted(path.name for path in directory.iterdir() if path.is_file())
    return [name for name in names if not DATA_FILE.search(name)]


def _stray(directory: Path, strays: list[str], group: DataCollectionGroup) -> Finding:
    some = ", ".join(strays[:MOST_NAMES]) + (", ..." if len(strays) > MOST_NAMES else "")
    return Finding(
        kind="no-record",
        group_id=group.group_id,
        what=f"{len(strays)} files in {directory} that no record names: {some}",
        advice=f"without a record they are processed by ssx process {directory / strays[0]} --out DIR",
    )


def same_naming(template: str) -> re.Pattern[str]:
    """Names built like those of a template: another prefix, other numbers, the same ending.

    Examples
    --------
    >>> pattern = same_naming("chip1_master.h5")
    >>> [bool(pattern.fullmatch(name)) for name in ("dark_master.h5", "chip1_data_000001.h5")]
    [True, False]
    >>> bool(same_naming("chip1_####.cbf").fullmatch("chip2_0001.cbf"))
    True
    """
    stem, suffix = Path(template).stem, Path(template).suffix
    prefix, mark, ending = NUMBER_IN_TEMPLATE.sub("0", stem).rpartition("_")
    tail = r"\d+".join(map(re.escape, re.split(r"\d+", f"{mark}{ending}")))
    return re.compile((".+" if prefix else "") + tail + re.escape(suffix))
