"""Event chains of ISPyB's data collections as tables of frames."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.data_set_run import DataSetRun
from flows.job import Job
from ispyb_io import records
from ispyb_io.protocol import plain_label
from ispyb_io.records import DataCollection, DataCollectionGroup
from ssx_processing.errors import EventChainError, SettingsError
from ssx_processing.pipeline.event_chain import ChainEvent, EventChain
from ssx_processing.pipeline.event_columns import event_columns_needed, write_event_table
from ssx_processing.pipeline.event_table import EventTable, event_table, never_toggles


@dataclass(frozen=True)
class CollectionEvents:
    """What the event chains of one data collection say of its frames."""

    collection: DataCollection
    table: EventTable | None
    refused: str = ""
    """Why there is no table."""

    @property
    def title(self) -> str:
        """For people."""
        return f"data collection {self.collection.data_collection_id}"


def collection_events(
    collection: DataCollection, group: DataCollectionGroup, n_frames: int
) -> CollectionEvents:
    """Make the table of a data collection, or say why there is none."""
    try:
        table = event_table(chains_of(collection), n_frames, is_jet=is_jet(group))
    except EventChainError as error:
        return CollectionEvents(collection, None, str(error))
    return CollectionEvents(collection, table)


def chains_of(collection: DataCollection) -> tuple[EventChain, ...]:
    """The chains that ISPyB has for a data collection."""
    return tuple(
        EventChain(chain.name, tuple(_event(event) for event in chain.events))
        for chain in collection.event_chains
    )


def _event(event: records.Event) -> ChainEvent:
    return ChainEvent(
        kind=event.event_type,
        offset_s=event.offset,
        duration_s=event.duration,
        period_s=event.period,
        repetition=event.repetition,
        name=event.name,
    )


def is_jet(group: DataCollectionGroup) -> bool:
    """Whether each frame sees another crystal because they flow: SSX-Jet, Serial Jet."""
    return plain_label(group.experiment_type or "").endswith("jet")


def event_notices(events: Sequence[CollectionEvents]) -> tuple[str, ...]:
    """What must be known of the events of data collections that are merged together; each line once."""
    lines = [f"{e.title}: {e.refused}" for e in events if e.refused and e.collection.event_chains]
    lines += [f"{e.title}: {warning}" for e in events if e.table for warning in e.table.warnings]
    toggles = never_toggles([e.table for e in events if e.table])
    return (*lines, *([toggles] if toggles else []))


def check_events(job: Job, n_frames: Sequence[int]) -> list[CollectionEvents]:
    """Events of each data set; raises before the work what would fail the merge after it.

    Parameters
    ----------
    n_frames
        Of each data set of the job.

    Raises
    ------
    SettingsError
        The subsets are told by events, and there are none that can be used.
    """
    events = [
        collection_events(data_set.collection, group, n)
        for data_set, n in zip(job.data_sets, n_frames, strict=True)
        if data_set.collection is not None
        and (group := job.group_of(data_set.collection.data_collection_id)) is not None
    ]
    merging = job.settings.merging
    if event_columns_needed(merging) and merging.subset_table is None:
        _require(events, merging.subset_by or "")
    return events


def apply_events(job: Job, runs: Sequence[DataSetRun]) -> tuple[str, ...]:
    """Put the tables of frames where the merge finds them; returns what must be known of them.

    Raises
    ------
    SettingsError
        The subsets are told by events, and there are none that can be used.
    """
    for run in runs:
        write_event_table(run.data_set.folder, None)
    events = check_events(job, [run.plan.frames_total for run in runs])
    for run, of_run in zip(runs, events, strict=bool(events)):  # without ISPyB there are none
        write_event_table(run.data_set.folder, of_run.table)
    return event_notices(events)


def _require(events: Sequence[CollectionEvents], by: str) -> None:
    """Raise if a subset would be of frames whose events are not known."""
    refused = [f"{e.title}: {e.refused}" for e in events if e.table is None]
    if refused or not events:
        reason = "; ".join(refused) or "images without ISPyB have no event chains"
        raise SettingsError(
            f"merging.subset_by {by!r} needs the events of each frame: {reason}; "
            "give them as a table (merging.subset_table)"
        )
