"""A collected chip, written to ISPyB as a beamline's control system writes it.

The product only reads these rows; the demo and the tests need them to be there.
"""

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from sqlalchemy import Connection, Engine, Table, select

from ispyb_io import site_tables, tables
from ispyb_io.column_types import CELL_COLUMNS, table
from ispyb_io.flavour import Flavour
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES, RejectedError
from ispyb_io.records import EventChain, Record, SampleComponent, SsxDetails, UnitCell
from ispyb_io.transactions import find, insert_row, put, writing

CHIP, JET, SERIAL_FIXED, SERIAL_JET = SSX_EXPERIMENT_TYPES
OTHER_NAMES = {CHIP: SERIAL_FIXED, JET: SERIAL_JET, SERIAL_FIXED: CHIP, SERIAL_JET: JET}


class CollectedChip(Record):
    """What the beamline knows at the end of one serial data collection."""

    proposal: Annotated[str, Field(pattern=r"^[a-zA-Z]+\d+$")]
    """Code and number, e.g. mx1234."""
    beamline: str
    session_start: datetime.datetime
    visit_number: int = 1
    experiment_type: str = "SSX-Chip"
    """Where the site's enum lacks it, the name that another site has for the same is written."""
    protein_acronym: str
    protein_name: str = ""
    sample_name: str
    unit_cell: UnitCell | None = None
    space_group: str | None = None
    image_directory: Path
    file_template: str
    n_images: int
    wavelength: float
    """Å."""
    detector_distance_mm: float
    beam_centre_mm: tuple[float, float]
    """Fast, slow; from the corner of the image."""
    exposure_s: float
    start_time: datetime.datetime
    end_time: datetime.datetime | None = None
    """None: it still runs."""
    run_status: str | None = "DataCollection Successful"
    detector: str = ""
    """Model, e.g. EIGER2 X 4M."""
    components: tuple[SampleComponent, ...] = ()
    """Of the sample and of its crystals."""
    ssx: SsxDetails = SsxDetails()
    event_chains: tuple[EventChain, ...] = ()
    comments: str = ""


class CollectedIds(NamedTuple):
    """Where the rows are."""

    session_id: int
    sample_id: int
    group_id: int
    data_collection_id: int


def write_collected_chip(engine: Engine, chip: CollectedChip) -> CollectedIds:
    """Write proposal, session, sample, group, data collection and events; returns their ids.

    May be repeated: a data collection of the same proposal, directory and file template is the
    same one, and one of the same proposal and sample joins the sample's group.
    """
    with writing(engine, f"collected {chip.proposal}") as connection:
        return _Beamline(connection, Flavour.of(connection)).write(chip)


class _Beamline:
    """Puts rows through one connection."""

    def __init__(self, connection: Connection, flavour: Flavour) -> None:
        self._connection = connection
        self._flavour = flavour

    def write(self, chip: CollectedChip) -> CollectedIds:
        proposal_id = self._proposal(chip)
        session_id = self._session(chip, proposal_id)
        sample_id = self._sample(chip, proposal_id)
        group_id = self._group(chip, session_id, sample_id)
        data_collection_id = self._data_collection(chip, group_id)
        self._events(chip, data_collection_id)
        return CollectedIds(session_id, sample_id, group_id, data_collection_id)

    def _put(self, model: type[tables.Base], key: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        into: Table = table(model)
        return put(self._connection, into, key, self._flavour.known(into, values))

    def _proposal(self, chip: CollectedChip) -> int:
        code, number = re.findall(r"[a-zA-Z]+|\d+", chip.proposal)
        person_id = self._put(tables.Person, {"login": chip.proposal}, {"familyName": chip.proposal})
        key = {"proposalCode": code, "proposalNumber": number}
        return self._put(tables.Proposal, key, {"personId": person_id})

    def _session(self, chip: CollectedChip, proposal_id: int) -> int:
        key = {"proposalId": proposal_id, "visit_number": chip.visit_number, "beamLineName": chip.beamline}
        # lastUpdate's own default is 0000-00-00, which a strict server does not take
        return self._put(
            tables.BLSession, key, {"startDate": chip.session_start, "lastUpdate": chip.session_start}
        )

    def _sample(self, chip: CollectedChip, proposal_id: int) -> int:
        protein_id = self._put(
            tables.Protein,
            {"proposalId": proposal_id, "acronym": chip.protein_acronym},
            {"name": chip.protein_name or chip.protein_acronym},
        )
        cell = dict(zip(CELL_COLUMNS, chip.unit_cell or (None,) * 6, strict=True))
        crystal_id = self._put(
            tables.Crystal,
            {"proteinId": protein_id, "name": chip.sample_name},
            {"spaceGroup": chip.space_group, **cell},
        )
        sample_id = self._put(tables.BLSample, {"crystalId": crystal_id, "name": chip.sample_name}, {})
        for component in chip.components:
            self._component(component, proposal_id, sample_id, crystal_id)
        return sample_id

    def _component(
        self, component: SampleComponent, proposal_id: int, sample_id: int, crystal_id: int
    ) -> None:
        type_id = self._word(tables.ComponentType, component.component_type)
        component_id = self._put(
            tables.Component,
            {"proposalId": proposal_id, "componentTypeId": type_id, "name": component.name},
            {"composition": component.composition},
        )
        values = {"abundance": component.abundance, "ratio": component.ratio, "ph": component.ph}
        if component.unit:
            values["concentrationTypeId"] = self._word(
                tables.ConcentrationType, component.unit, column="symbol"
            )
        model, owner = (
            (tables.CrystalComposition, {"crystalId": crystal_id})
            if component.of_crystal
            else (tables.SampleComposition, {"blSampleId": sample_id})
        )
        self._put(model, {"componentId": component_id, **owner}, values)

    def _group(self, chip: CollectedChip, session_id: int, sample_id: int) -> int:
        label = self._experiment_type(chip.experiment_type)
        values: dict[str, Any] = {
            "startTime": chip.start_time,
            "endTime": chip.end_time,
            "comments": chip.comments,
        }
        if self._flavour.has("ExperimentType"):
            named = table(site_tables.ExperimentType)
            values["experimentTypeId"] = find(self._connection, named, {"name": label})
        key = {"sessionId": session_id, "blSampleId": sample_id, "experimentType": label}
        return self._put(tables.DataCollectionGroup, key, values)

    def _experiment_type(self, name: str) -> str:
        """Name, or Diamond's for ESRF's or the other way round, whichever this site's enum has."""
        labels = self._flavour.labels("DataCollectionGroup", "experimentType")
        other = OTHER_NAMES.get(name)
        if labels is not None and name not in labels and other in labels:
            return other
        return self._flavour.label("DataCollectionGroup", "experimentType", name)

    def _data_collection(self, chip: CollectedChip, group_id: int) -> int:
        key = {
            "dataCollectionGroupId": group_id,
            "imageDirectory": str(chip.image_directory),
            "fileTemplate": chip.file_template,
        }
        values = {
            "startTime": chip.start_time,
            "endTime": chip.end_time,
            "runStatus": chip.run_status,
            "numberOfImages": chip.n_images,
            "startImageNumber": 1,
            "axisRange": 0.0,
            "exposureTime": chip.exposure_s,
            "wavelength": chip.wavelength,
            "detectorDistance": chip.detector_distance_mm,
            "xBeam": chip.beam_centre_mm[0],
            "yBeam": chip.beam_centre_mm[1],
        }
        if chip.detector:
            values["detectorId"] = self._put(tables.Detector, {"detectorModel": chip.detector}, {})
        data_collection_id = self._put(tables.DataCollection, key, values)
        self._ssx(chip.ssx, data_collection_id)
        return data_collection_id

    def _ssx(self, ssx: SsxDetails, data_collection_id: int) -> None:
        values = {
            "repetitionRate": ssx.repetition_rate,
            "energyBandwidth": ssx.energy_bandwidth,
            "chipModel": ssx.chip_model,
            "chipPattern": ssx.chip_pattern,
            "jetSpeed": ssx.jet_speed,
            "jetSize": ssx.jet_size,
            "reactionDuration": ssx.reaction_duration,
            "laserEnergy": ssx.laser_energy,
            "experimentName": ssx.experiment_name,
        }
        self._put(tables.SSXDataCollection, {"dataCollectionId": data_collection_id}, values)

    def _events(self, chip: CollectedChip, data_collection_id: int) -> None:
        for chain in chip.event_chains:
            key = {"dataCollectionId": data_collection_id, "name": chain.name}
            if find(self._connection, table(tables.EventChain), key) is not None:
                continue  # events have no natural key: a chain is written once, whole
            chain_id = self._put(tables.EventChain, key, {})
            for event in chain.events:
                values = {
                    "eventChainId": chain_id,
                    "eventTypeId": self._word(tables.EventType, event.event_type),
                    **event.model_dump(exclude={"event_type"}),
                }
                insert_row(self._connection, table(tables.Event), values)

    def _word(self, model: type[tables.Base], name: str, column: str = "name") -> int:
        """Id of a row in a table that holds words, which only the site's administrators fill."""
        words = table(model)
        id_ = find(self._connection, words, {column: name})
        if id_ is None:
            known = self._connection.execute(select(words.c[column])).scalars()
            what = f"{words.name} {name!r}"
            raise RejectedError(f"{what} is not in ISPyB, only {', '.join(known) or 'none'}")
        return id_
