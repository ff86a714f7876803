"""What is read from ISPyB, in our names and units: Å, degrees, seconds; image numbers from 1.

What is written is in ``results.py``.
"""

import datetime
import re
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

UnitCell = tuple[float, float, float, float, float, float]
"""a, b, c in Å, alpha, beta, gamma in degrees."""


class Record(BaseModel):
    """Frozen, no unknown keys, descriptions from the strings below the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Relation(StrEnum):
    """What data collection groups have in common with one of them."""

    SAMPLE = "same-sample"
    """The same BLSample."""
    PROTEIN = "same-protein"
    """The same Protein, or one with the same acronym in the same proposal."""
    SAMPLE_GROUP = "same-sample-group"
    """A sample that is in a BLSampleGroup with its sample."""


class SampleComponent(Record):
    """A substance in the sample besides the protein."""

    name: str
    component_type: str
    """Ligand, Buffer, JetMaterial."""
    composition: str | None = None
    abundance: float | None = None
    unit: str = ""
    """Of the abundance: symbol of ISPyB's ConcentrationType, e.g. mM; empty where ISPyB names none."""
    ratio: float | None = None
    """Of the component to the others, as the beamline gave it."""
    ph: float | None = None
    of_crystal: bool = False
    """In the crystals (CrystalComposition), not only around them (SampleComposition)."""

    @property
    def is_ligand(self) -> bool:
        """Whether ISPyB calls it a ligand."""
        return self.component_type.strip().lower() == "ligand"

    @property
    def is_carrier(self) -> bool:
        """Whether it takes the crystals into the beam."""
        return self.component_type.strip().lower() == "jetmaterial"

    @property
    def words(self) -> str:
        """For people.

        Examples
        --------
        >>> SampleComponent(name="NAG", component_type="Ligand", abundance=5, unit="mM", ph=4.5).words
        'ligand NAG 5 mM, pH 4.5'
        """
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.component_type).lower()
        return f"{kind} {self.substance}"

    @property
    def substance(self) -> str:
        """Name and amount, without the kind.

        Examples
        --------
        >>> SampleComponent(name="LCP", component_type="JetMaterial", abundance=60, unit="%(w/v)").substance
        'LCP 60 %(w/v)'
        """
        amount = (
            "" if self.abundance is None else f" {self.abundance:g}{f' {self.unit}' if self.unit else ''}"
        )
        made_of = f" ({self.composition})" if self.composition else ""
        more = [
            *([f"ratio {self.ratio:g}"] if self.ratio is not None else []),
            *([f"pH {self.ph:g}"] if self.ph is not None else []),
            *(["in the crystals"] if self.of_crystal else []),
        ]
        return ", ".join([f"{self.name}{made_of}{amount}", *more])


class Sample(Record):
    """What was in the beam; the expected cell is that of ISPyB's Crystal."""

    sample_id: int
    name: str
    protein_acronym: str
    protein_name: str = ""
    unit_cell: UnitCell | None = None
    """None unless all six numbers are there and above zero."""
    space_group: str | None = None
    """As in ISPyB, e.g. P43212; not checked here."""
    components: tuple[SampleComponent, ...] = ()
    sample_group_ids: tuple[int, ...] = ()
    """BLSampleGroups that it is in."""


class Event(Record):
    """One thing that happens each time an event chain runs.

    Times are in seconds, as beamline I24 writes them; the schema itself names no unit.
    """

    event_type: str
    """XrayDetection, XrayExposure, LaserExcitation or ReactionTrigger."""
    name: str = ""
    offset: float = 0.0
    """From the start of the chain, s."""
    duration: float | None = None
    """s."""
    period: float | None = None
    """From one repetition to the next, s."""
    repetition: float | None = None
    """How many times."""


class EventChain(Record):
    """A named sequence of events that the data collection repeats."""

    name: str
    events: tuple[Event, ...] = ()


class SsxDetails(Record):
    """What a serial data collection has besides; None where the beamline did not say."""

    repetition_rate: float | None = None
    """Hz."""
    energy_bandwidth: float | None = None
    chip_model: str | None = None
    chip_pattern: str | None = None
    jet_speed: float | None = None
    jet_size: float | None = None
    reaction_duration: float | None = None
    laser_energy: float | None = None
    experiment_name: str | None = None


class DataCollection(Record):
    """One run of the detector."""

    data_collection_id: int
    image_directory: Path | None = None
    """None where the writer left it out: py-ispyb's SSX endpoint drops it."""
    file_template: str | None = None
    """Of the files in the directory, e.g. chip1_master.h5 or chip1_####.cbf."""
    image_prefix: str | None = None
    """Start of the names of its files, where the writer said so."""
    number: int | None = None
    """Of the run, as the beamline counts (dataCollectionNumber)."""
    n_images: int | None = None
    wavelength: float | None = None
    """Å."""
    detector_distance_mm: float | None = None
    exposure_s: float | None = None
    start_time: datetime.datetime | None = None
    """Local time of the facility, without a zone, like all times of ISPyB."""
    end_time: datetime.datetime | None = None
    run_status: str | None = None
    """e.g. DataCollection Successful; None while it runs, and always with some writers."""
    ssx: SsxDetails | None = None
    event_chains: tuple[EventChain, ...] = ()


class DataCollectionGroup(Record):
    """Data collections of one sample that the beamline took together."""

    group_id: int
    session_id: int | None = None
    """None where py-ispyb does not show the session."""
    proposal: str
    """Code and number, e.g. mx1234."""
    beamline: str = ""
    visit_number: int | None = None
    session_start: datetime.datetime | None = None
    experiment_type: str | None = None
    sample: Sample | None = None
    comments: str = ""
    start_time: datetime.datetime | None = None
    end_time: datetime.datetime | None = None
    """Often missing though the collection has ended."""
    data_collections: tuple[DataCollection, ...] = ()
    """In the order of their ids."""

    @property
    def newest_data_collection_id(self) -> int:
        """Largest id of a member, 0 without members."""
        return max((d.data_collection_id for d in self.data_collections), default=0)


class Offers(Record):
    """What an ISPyB has, lacks and can take."""

    dialect: str
    """sqlite, mysql, mariadb or py-ispyb."""
    server_version: str
    tables: tuple[str, ...]
    """Of the tables that we touch, those which are there."""
    missing_tables: tuple[str, ...]
    """Of those that every ISPyB should have; ``tables`` has the ones of some sites that are there too."""
    missing_columns: tuple[str, ...]
    """As Table.column, in tables that are there; such values are neither read nor written."""
    experiment_types: tuple[str, ...] | None
    """Labels of DataCollectionGroup.experimentType; None where it takes any text."""
    problems: tuple[str, ...]
    """One sentence for each thing that stops results from being written; empty if all is well."""
    limits: tuple[str, ...] = ()
    """One sentence for each thing that ISPyB is not told, though it lies in the files and the ledger."""
