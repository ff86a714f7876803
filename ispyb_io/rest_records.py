"""What py-ispyb serves of data collections and their events, and how it becomes our records."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from ispyb_io import records
from ispyb_io.rest_served import Served, ServedName


def _local_without_zone(time: datetime.datetime) -> datetime.datetime:
    """ISPyB's times are local ones; a server that adds a zone means the same moment."""
    return time if time.tzinfo is None else time.astimezone().replace(tzinfo=None)


Time = Annotated[datetime.datetime, AfterValidator(_local_without_zone)]


class ServedGroup(Served):
    """DataCollectionGroup within an event."""

    dataCollectionGroupId: int
    experimentType: str | None = None
    blSampleId: int | None = None


class ServedSsx(Served):
    """SSXDataCollection; only a py-ispyb with SSX serves it."""

    repetitionRate: float | None = None
    energyBandwidth: float | None = None
    chipModel: str | None = None
    chipPattern: str | None = None
    jetSpeed: float | None = None
    jetSize: float | None = None
    reactionDuration: float | None = None
    laserEnergy: float | None = None
    experimentName: str | None = None

    def record(self) -> records.SsxDetails:
        """Under our names."""
        return records.SsxDetails(
            repetition_rate=self.repetitionRate,
            energy_bandwidth=self.energyBandwidth,
            chip_model=self.chipModel,
            chip_pattern=self.chipPattern,
            jet_speed=self.jetSpeed,
            jet_size=self.jetSize,
            reaction_duration=self.reactionDuration,
            laser_energy=self.laserEnergy,
            experiment_name=self.experimentName,
        )


class ServedCollection(Served):
    """DataCollection within an event."""

    dataCollectionId: int
    DataCollectionGroup: ServedGroup
    imageDirectory: str | None = None
    fileTemplate: str | None = None
    numberOfImages: int | None = None
    wavelength: float | None = None
    detectorDistance: float | None = None
    exposureTime: float | None = None
    runStatus: str | None = None
    SSXDataCollection: ServedSsx | None = None


class ServedEvent(Served):
    """An event of type dc: a data collection, or a group of ``count``, of which one is ``Item``."""

    id: int
    startTime: Time | None = None
    endTime: Time | None = None
    count: int = 1
    session: str = ""
    proposal: str = ""
    blSampleId: int | None = None
    Item: ServedCollection

    @property
    def group_id(self) -> int:
        """Its dataCollectionGroupId."""
        return self.Item.DataCollectionGroup.dataCollectionGroupId

    @property
    def sample_id(self) -> int | None:
        """Its blSampleId, which older versions serve only at the event."""
        return self.Item.DataCollectionGroup.blSampleId or self.blSampleId

    @property
    def visit_number(self) -> int | None:
        """What follows the last dash of the session's name."""
        visit = self.session.rpartition("-")[2]
        return int(visit) if visit.isdecimal() else None

    def record(self, chains: tuple[records.EventChain, ...]) -> records.DataCollection:
        """The data collection; not for an event of several."""
        item = self.Item
        return records.DataCollection(
            data_collection_id=item.dataCollectionId,
            image_directory=Path(item.imageDirectory) if item.imageDirectory else None,
            file_template=item.fileTemplate or None,
            n_images=item.numberOfImages,
            wavelength=item.wavelength,
            detector_distance_mm=item.detectorDistance,
            exposure_s=item.exposureTime,
            start_time=self.startTime,
            end_time=self.endTime,
            run_status=item.runStatus,
            ssx=item.SSXDataCollection.record() if item.SSXDataCollection else None,
            event_chains=chains,
        )


class ServedSession(Served):
    """BLSession."""

    sessionId: int | None = None
    beamLineName: str | None = None


class ServedChainEvent(Served):
    """Event of an event chain."""

    eventId: int = 0
    name: str | None = None
    offset: float = 0.0
    duration: float | None = None
    period: float | None = None
    repetition: float | None = None
    EventType: ServedName = ServedName()


class ServedChain(Served):
    """EventChain."""

    eventChainId: int = 0
    name: str | None = None
    events: tuple[ServedChainEvent, ...] = ()

    def record(self) -> records.EventChain:
        """Events in the order of their time."""
        events = sorted(self.events, key=lambda event: (event.offset, event.eventId))
        return records.EventChain(
            name=self.name or "",
            events=tuple(
                records.Event(
                    event_type=event.EventType.name,
                    name=event.name or "",
                    offset=event.offset,
                    duration=event.duration,
                    period=event.period,
                    repetition=event.repetition,
                )
                for event in events
            ),
        )


def group_record(
    collections: Sequence[ServedEvent],
    session: ServedSession,
    sample: records.Sample | None,
    chains: dict[int, tuple[records.EventChain, ...]],
) -> records.DataCollectionGroup:
    """Put together a group. Its own times and comments are not served."""
    first = collections[0]
    ordered = sorted(collections, key=lambda event: event.Item.dataCollectionId)
    return records.DataCollectionGroup(
        group_id=first.group_id,
        session_id=session.sessionId,
        proposal=first.proposal,
        beamline=session.beamLineName or "",
        visit_number=first.visit_number,
        experiment_type=first.Item.DataCollectionGroup.experimentType,
        sample=sample,
        data_collections=tuple(e.record(chains.get(e.Item.dataCollectionId, ())) for e in ordered),
    )
