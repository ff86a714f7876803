"""ISPyB's tables of the experiment: from the proposal down to the events of a data collection.

Table and column names are ISPyB's own; the columns are those of the ESRF schema (ispyb-models
1.1.0), less the ones of electron microscopy and sample changers. A site may lack some of them or
have more: ``flavour.py`` finds out, and nothing is read or written that is not there. The types
are portable, so that ``create_all`` makes the same tables on SQLite and on MariaDB.

What processing writes is in ``result_tables.py``.
"""

import datetime

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ispyb_io.column_types import (
    TYPES,
    Key,
    Label,
    Text20,
    Text45,
    Text100,
    Text255,
    Text1024,
    elsewhere,
    reference,
)

EXPERIMENT_TYPES = (
    "EM", "SAD", "SAD - Inverse Beam", "OSC", "Collect - Multiwedge", "MAD", "Helical", "Multi-positional",
    "Mesh", "Burn", "MAD - Inverse Beam", "Characterization", "Dehydration", "Still", "SSX-Chip", "SSX-Jet",
)  # fmt: skip


class Base(DeclarativeBase):
    """Tables that every ISPyB has, as far as we touch them."""

    type_annotation_map = TYPES


class Person(Base):
    """Somebody known to the facility."""

    __tablename__ = "Person"
    personId: Mapped[Key]
    familyName: Mapped[Text100 | None]
    givenName: Mapped[Text45 | None]
    login: Mapped[Text45 | None]


class Proposal(Base):
    """Beam time applied for; known to users as code and number, e.g. mx1234."""

    __tablename__ = "Proposal"
    proposalId: Mapped[Key]
    personId: Mapped[int] = reference("Person.personId")
    title: Mapped[str | None] = mapped_column(String(200))
    proposalCode: Mapped[Text45 | None]
    proposalNumber: Mapped[Text45 | None]


class BLSession(Base):
    """A visit of a proposal to a beamline."""

    __tablename__ = "BLSession"
    sessionId: Mapped[Key]
    proposalId: Mapped[int] = reference("Proposal.proposalId")
    startDate: Mapped[datetime.datetime | None]
    endDate: Mapped[datetime.datetime | None]
    beamLineName: Mapped[Text45 | None]
    visit_number: Mapped[int | None]
    comments: Mapped[str | None] = mapped_column(String(2000))
    lastUpdate: Mapped[datetime.datetime]


class ComponentType(Base):
    """Kind of component: Ligand, Buffer, JetMaterial."""

    __tablename__ = "ComponentType"
    componentTypeId: Mapped[Key]
    name: Mapped[str] = mapped_column(String(31))


class Component(Base):
    """A substance in a sample, other than the protein."""

    __tablename__ = "Component"
    componentId: Mapped[Key]
    componentTypeId: Mapped[int] = reference("ComponentType.componentTypeId")
    proposalId: Mapped[int | None] = reference("Proposal.proposalId")
    name: Mapped[Text255]
    composition: Mapped[Text255 | None]


class ConcentrationType(Base):
    """Unit of an abundance, e.g. Molar, M."""

    __tablename__ = "ConcentrationType"
    concentrationTypeId: Mapped[Key]
    name: Mapped[str] = mapped_column(String(31))
    symbol: Mapped[str] = mapped_column(String(8))


class Protein(Base):
    """A macromolecule of a proposal."""

    __tablename__ = "Protein"
    proteinId: Mapped[Key]
    proposalId: Mapped[int] = reference("Proposal.proposalId")
    name: Mapped[Text255 | None]
    acronym: Mapped[Text45 | None]
    sequence: Mapped[str | None] = mapped_column(Text)


class Crystal(Base):
    """A crystal form of a protein: this is where the expected cell and space group are."""

    __tablename__ = "Crystal"
    crystalId: Mapped[Key]
    proteinId: Mapped[int] = reference("Protein.proteinId")
    name: Mapped[Text255 | None]
    spaceGroup: Mapped[Text20 | None]
    size_X: Mapped[float | None]
    size_Y: Mapped[float | None]
    size_Z: Mapped[float | None]
    cell_a: Mapped[float | None]
    cell_b: Mapped[float | None]
    cell_c: Mapped[float | None]
    cell_alpha: Mapped[float | None]
    cell_beta: Mapped[float | None]
    cell_gamma: Mapped[float | None]
    comments: Mapped[Text255 | None]


class BLSample(Base):
    """What is put into the beam, e.g. a loaded chip."""

    __tablename__ = "BLSample"
    blSampleId: Mapped[Key]
    crystalId: Mapped[int | None] = reference("Crystal.crystalId")
    name: Mapped[Text100 | None]
    comments: Mapped[Text1024 | None]


class BLSampleGroup(Base):
    """Samples that somebody put together."""

    __tablename__ = "BLSampleGroup"
    blSampleGroupId: Mapped[Key]
    name: Mapped[Text100 | None]


class BLSampleGroup_has_BLSample(Base):
    """Which samples those are."""

    __tablename__ = "BLSampleGroup_has_BLSample"
    blSampleGroupId: Mapped[int] = reference("BLSampleGroup.blSampleGroupId", primary_key=True)
    blSampleId: Mapped[int] = reference("BLSample.blSampleId", primary_key=True)


class SampleComposition(Base):
    """Which components a sample has."""

    __tablename__ = "SampleComposition"
    sampleCompositionId: Mapped[Key]
    componentId: Mapped[int] = reference("Component.componentId")
    blSampleId: Mapped[int] = reference("BLSample.blSampleId")
    concentrationTypeId: Mapped[int | None] = reference("ConcentrationType.concentrationTypeId")
    abundance: Mapped[float | None]
    ratio: Mapped[float | None]
    ph: Mapped[float | None]


class CrystalComposition(Base):
    """Which components the crystals were grown or soaked with."""

    __tablename__ = "CrystalComposition"
    crystalCompositionId: Mapped[Key]
    componentId: Mapped[int] = reference("Component.componentId")
    crystalId: Mapped[int] = reference("Crystal.crystalId")
    concentrationTypeId: Mapped[int | None] = reference("ConcentrationType.concentrationTypeId")
    abundance: Mapped[float | None]
    ratio: Mapped[float | None]
    ph: Mapped[float | None]


class Detector(Base):
    """The detector of a beamline."""

    __tablename__ = "Detector"
    detectorId: Mapped[Key]
    detectorType: Mapped[Text255 | None]
    detectorManufacturer: Mapped[Text255 | None]
    detectorModel: Mapped[Text255 | None]
    detectorPixelSizeHorizontal: Mapped[float | None]
    detectorPixelSizeVertical: Mapped[float | None]
    sensorThickness: Mapped[float | None]


class DataCollectionGroup(Base):
    """Data collections of one sample that the beamline took together."""

    __tablename__ = "DataCollectionGroup"
    dataCollectionGroupId: Mapped[Key]
    blSampleId: Mapped[int | None] = reference("BLSample.blSampleId")
    sessionId: Mapped[int] = reference("BLSession.sessionId")
    experimentType: Mapped[str | None] = mapped_column(Label(*EXPERIMENT_TYPES))
    experimentTypeId: Mapped[int | None] = elsewhere(Integer)
    startTime: Mapped[datetime.datetime | None]
    endTime: Mapped[datetime.datetime | None]
    comments: Mapped[Text1024 | None]


class DataCollection(Base):
    """One run of the detector: a directory, a file template, a number of images."""

    __tablename__ = "DataCollection"
    dataCollectionId: Mapped[Key]
    dataCollectionGroupId: Mapped[int] = reference("DataCollectionGroup.dataCollectionGroupId")
    blSampleId: Mapped[int | None] = mapped_column(Integer, index=True)  # no foreign key at ESRF
    detectorId: Mapped[int | None] = reference("Detector.detectorId")
    dataCollectionNumber: Mapped[int | None]
    startTime: Mapped[datetime.datetime | None]
    endTime: Mapped[datetime.datetime | None]
    runStatus: Mapped[Text45 | None]
    axisStart: Mapped[float | None]
    axisEnd: Mapped[float | None]
    axisRange: Mapped[float | None]
    overlap: Mapped[float | None]
    numberOfImages: Mapped[int | None]
    startImageNumber: Mapped[int | None]
    numberOfPasses: Mapped[int | None]
    exposureTime: Mapped[float | None]
    imageDirectory: Mapped[Text255 | None]
    imagePrefix: Mapped[Text100 | None]
    imageSuffix: Mapped[Text45 | None]
    imageContainerSubPath: Mapped[Text255 | None]
    fileTemplate: Mapped[Text255 | None]
    wavelength: Mapped[float | None]
    resolution: Mapped[float | None]
    detectorDistance: Mapped[float | None]
    xBeam: Mapped[float | None]
    yBeam: Mapped[float | None]
    comments: Mapped[Text1024 | None]
    transmission: Mapped[float | None]
    beamSizeAtSampleX: Mapped[float | None]
    beamSizeAtSampleY: Mapped[float | None]
    averageTemperature: Mapped[float | None]
    flux: Mapped[float | None]


class SSXDataCollection(Base):
    """What a serial data collection has besides."""

    __tablename__ = "SSXDataCollection"
    dataCollectionId: Mapped[int] = reference("DataCollection.dataCollectionId", primary_key=True)
    repetitionRate: Mapped[float | None]
    energyBandwidth: Mapped[float | None]
    monoStripe: Mapped[Text255 | None]
    jetSpeed: Mapped[float | None]
    jetSize: Mapped[float | None]
    chipPattern: Mapped[Text255 | None]
    chipModel: Mapped[Text255 | None]
    reactionDuration: Mapped[float | None]
    laserEnergy: Mapped[float | None]
    experimentName: Mapped[Text255 | None]


class EventType(Base):
    """XrayDetection, XrayExposure, LaserExcitation or ReactionTrigger."""

    __tablename__ = "EventType"
    eventTypeId: Mapped[Key]
    name: Mapped[str] = mapped_column(String(30))


class EventChain(Base):
    """A named sequence of events that a data collection repeats."""

    __tablename__ = "EventChain"
    eventChainId: Mapped[Key]
    dataCollectionId: Mapped[int] = reference("DataCollection.dataCollectionId")
    name: Mapped[Text255 | None]


class Event(Base):
    """One thing that happens in an event chain."""

    __tablename__ = "Event"
    eventId: Mapped[Key]
    eventChainId: Mapped[int] = reference("EventChain.eventChainId")
    componentId: Mapped[int | None] = reference("Component.componentId")
    eventTypeId: Mapped[int] = reference("EventType.eventTypeId")
    name: Mapped[Text255 | None]
    offset: Mapped[float]
    duration: Mapped[float | None]
    period: Mapped[float | None]
    repetition: Mapped[float | None]
