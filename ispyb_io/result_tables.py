"""ISPyB's tables of processing: programs, integrations, scalings, statistics, attachments.

Names and columns as in ``tables.py``. ``processingStatus`` is a list of strings at ESRF and MAX IV,
where an integer 1 would be the *first label*, RUNNING, and a number at Diamond (``Flavour.status``).
Columns that only Diamond has are not made in the embedded database (``elsewhere``).
"""

import datetime

from sqlalchemy import Double, Float, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from ispyb_io.column_types import Key, Label, Text45, Text255, elsewhere, reference
from ispyb_io.tables import Base


class AutoProcProgram(Base):
    """One run of a program; with a dataCollectionId the SSX pages show its JSON attachments."""

    __tablename__ = "AutoProcProgram"
    autoProcProgramId: Mapped[Key]
    dataCollectionId: Mapped[int | None] = reference("DataCollection.dataCollectionId")
    processingCommandLine: Mapped[Text255 | None]
    processingPrograms: Mapped[Text255 | None]
    processingStatus: Mapped[str | None] = mapped_column(Label("RUNNING", "FAILED", "SUCCESS", "0", "1"))
    processingMessage: Mapped[Text255 | None]
    processingStartTime: Mapped[datetime.datetime | None]
    processingEndTime: Mapped[datetime.datetime | None]
    processingEnvironment: Mapped[Text255 | None]
    recordTimeStamp: Mapped[datetime.datetime | None]
    processingJobId: Mapped[int | None] = elsewhere(Integer)
    parentAutoProcProgramId: Mapped[int | None] = elsewhere(Integer)


class AutoProcProgramAttachment(Base):
    """A file that a program made."""

    __tablename__ = "AutoProcProgramAttachment"
    autoProcProgramAttachmentId: Mapped[Key]
    autoProcProgramId: Mapped[int] = reference("AutoProcProgram.autoProcProgramId")
    fileType: Mapped[str | None] = mapped_column(Label("Log", "Result", "Graph"))
    fileName: Mapped[Text255 | None]
    filePath: Mapped[Text255 | None]
    recordTimeStamp: Mapped[datetime.datetime | None]
    importanceRank: Mapped[int | None] = elsewhere(SmallInteger)
    deleted: Mapped[int | None] = elsewhere(SmallInteger)


class AutoProc(Base):
    """Space group and cell of a merged result; py-ispyb fails on a null in either."""

    __tablename__ = "AutoProc"
    autoProcId: Mapped[Key]
    autoProcProgramId: Mapped[int | None] = mapped_column(Integer, index=True)  # no foreign key at ESRF
    spaceGroup: Mapped[Text45 | None]
    refinedCell_a: Mapped[float | None]
    refinedCell_b: Mapped[float | None]
    refinedCell_c: Mapped[float | None]
    refinedCell_alpha: Mapped[float | None]
    refinedCell_beta: Mapped[float | None]
    refinedCell_gamma: Mapped[float | None]
    recordTimeStamp: Mapped[datetime.datetime | None]


class AutoProcScaling(Base):
    """One scaling and merging of an AutoProc."""

    __tablename__ = "AutoProcScaling"
    autoProcScalingId: Mapped[Key]
    autoProcId: Mapped[int | None] = reference("AutoProc.autoProcId")
    recordTimeStamp: Mapped[datetime.datetime | None]


class AutoProcScalingStatistics(Base):
    """Merging statistics of one of three shells."""

    __tablename__ = "AutoProcScalingStatistics"
    autoProcScalingStatisticsId: Mapped[Key]
    autoProcScalingId: Mapped[int | None] = reference("AutoProcScaling.autoProcScalingId")
    scalingStatisticsType: Mapped[str] = mapped_column(
        Label("overall", "innerShell", "outerShell"), server_default=text("'overall'")
    )
    comments: Mapped[Text255 | None]
    resolutionLimitLow: Mapped[float | None]
    resolutionLimitHigh: Mapped[float | None]
    rMerge: Mapped[float | None]
    rMeasWithinIPlusIMinus: Mapped[float | None]
    rMeasAllIPlusIMinus: Mapped[float | None]
    rPimWithinIPlusIMinus: Mapped[float | None]
    rPimAllIPlusIMinus: Mapped[float | None]
    fractionalPartialBias: Mapped[float | None]
    nTotalObservations: Mapped[int | None]
    nTotalUniqueObservations: Mapped[int | None]
    meanIOverSigI: Mapped[float | None]
    completeness: Mapped[float | None]
    multiplicity: Mapped[float | None]
    anomalousCompleteness: Mapped[float | None]
    anomalousMultiplicity: Mapped[float | None]
    recordTimeStamp: Mapped[datetime.datetime | None]
    anomalous: Mapped[int | None] = mapped_column(SmallInteger, server_default=text("0"))
    ccHalf: Mapped[float | None]
    ccAno: Mapped[float | None]
    ccAnomalous: Mapped[float | None] = elsewhere(Float)
    resIOverSigI2: Mapped[float | None] = elsewhere(Float)


class AutoProcIntegration(Base):
    """The part of a program's work that belongs to one data collection."""

    __tablename__ = "AutoProcIntegration"
    autoProcIntegrationId: Mapped[Key]
    dataCollectionId: Mapped[int] = reference("DataCollection.dataCollectionId")
    autoProcProgramId: Mapped[int | None] = reference("AutoProcProgram.autoProcProgramId")
    startImageNumber: Mapped[int | None]
    endImageNumber: Mapped[int | None]
    cell_a: Mapped[float | None]
    cell_b: Mapped[float | None]
    cell_c: Mapped[float | None]
    cell_alpha: Mapped[float | None]
    cell_beta: Mapped[float | None]
    cell_gamma: Mapped[float | None]
    recordTimeStamp: Mapped[datetime.datetime | None]
    anomalous: Mapped[int | None] = mapped_column(SmallInteger, server_default=text("0"))


class AutoProcScaling_has_Int(Base):
    """Which integrations went into a scaling."""

    __tablename__ = "AutoProcScaling_has_Int"
    autoProcScaling_has_IntId: Mapped[Key]
    autoProcScalingId: Mapped[int | None] = reference("AutoProcScaling.autoProcScalingId")
    autoProcIntegrationId: Mapped[int] = reference("AutoProcIntegration.autoProcIntegrationId")
    recordTimeStamp: Mapped[datetime.datetime | None]


class ImageQualityIndicators(Base):
    """What was seen on one image; Diamond has no id of its own here but (data collection, image)."""

    __tablename__ = "ImageQualityIndicators"
    imageQualityIndicatorsId: Mapped[Key]
    dataCollectionId: Mapped[int | None] = mapped_column(Integer, index=True)
    imageNumber: Mapped[int | None]
    autoProcProgramId: Mapped[int] = reference("AutoProcProgram.autoProcProgramId")
    spotTotal: Mapped[int | None]
    method1Res: Mapped[float | None]
    totalIntegratedSignal: Mapped[float | None] = mapped_column(Double)
    recordTimeStamp: Mapped[datetime.datetime | None]
