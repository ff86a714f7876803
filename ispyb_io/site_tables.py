"""Tables that only some sites have: Diamond's jobs and messages, MAX IV's results of serial collections.

Names and columns as in ``tables.py``. They are never made, also not in the embedded database: each is
used where ``Flavour`` finds it. So they refer to other rows by plain ids.
"""

import datetime
from collections.abc import Mapping
from typing import Annotated

from sqlalchemy import String, Table, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ispyb_io import result_tables as _result_tables  # noqa: F401  registers its tables with Base
from ispyb_io.column_types import TYPES, Key, Label, Text100, Text255, Text1024
from ispyb_io.tables import Base

Text50 = Annotated[str, mapped_column(String(50))]
Text80 = Annotated[str, mapped_column(String(80))]
Text200 = Annotated[str, mapped_column(String(200))]


class SiteBase(DeclarativeBase):
    """Tables of some sites."""

    type_annotation_map = TYPES


class ExperimentType(SiteBase):
    """Diamond: names of experiments; a group's experimentTypeId goes before its experimentType. Only read."""

    __tablename__ = "ExperimentType"
    experimentTypeId: Mapped[Key]
    name: Mapped[Text100 | None]


class ProcessingJob(SiteBase):
    """Diamond: what was asked for; its programs are what became of it."""

    __tablename__ = "ProcessingJob"
    processingJobId: Mapped[Key]
    dataCollectionId: Mapped[int | None]
    displayName: Mapped[Text80 | None]
    comments: Mapped[Text255 | None]
    recipe: Mapped[Text50 | None]
    automatic: Mapped[int | None]


class ProcessingJobParameter(SiteBase):
    """Diamond: a parameter of a job, by name."""

    __tablename__ = "ProcessingJobParameter"
    processingJobParameterId: Mapped[Key]
    processingJobId: Mapped[int | None]
    parameterKey: Mapped[Text80 | None]
    parameterValue: Mapped[Text1024 | None]


class ProcessingJobImageSweep(SiteBase):
    """Diamond: images of a data collection that a job takes."""

    __tablename__ = "ProcessingJobImageSweep"
    processingJobImageSweepId: Mapped[Key]
    processingJobId: Mapped[int | None]
    dataCollectionId: Mapped[int | None]
    startImage: Mapped[int | None]
    endImage: Mapped[int | None]


class AutoProcProgramMessage(SiteBase):
    """Diamond: what a program has to say to people."""

    __tablename__ = "AutoProcProgramMessage"
    autoProcProgramMessageId: Mapped[Key]
    autoProcProgramId: Mapped[int | None]
    recordTimeStamp: Mapped[datetime.datetime]
    severity: Mapped[str] = mapped_column(Label("ERROR", "WARNING", "INFO"))
    message: Mapped[Text200 | None]
    description: Mapped[str | None] = mapped_column(Text)


class SSXProcessingResult(SiteBase):
    """MAX IV: rates of a serial data collection, preliminary and final."""

    __tablename__ = "SSXProcessingResult"
    ssxProcessingResultId: Mapped[Key]
    dataCollectionId: Mapped[int]
    hitRate: Mapped[float | None]
    indexingRate: Mapped[float | None]
    nbCrystals: Mapped[int | None]
    indexingType: Mapped[str | None] = mapped_column(Label("Preliminary", "Final"))
    status: Mapped[str | None] = mapped_column(Label("Running", "Failed", "Success"))
    createdTimeStamp: Mapped[datetime.datetime]
    lastUpdate: Mapped[datetime.datetime]
    comments: Mapped[Text100 | None]


class SSXProcessingResultAttachment(SiteBase):
    """MAX IV: a file with such a result."""

    __tablename__ = "SSXProcessingResultAttachment"
    ssxProcessingResultAttachmentId: Mapped[Key]
    ssxProcessingResultId: Mapped[int | None]
    fileName: Mapped[Text255]
    filePath: Mapped[Text255]
    fileType: Mapped[str] = mapped_column(Label("Real-time processing results", "Processing results"))
    createdTimeStamp: Mapped[datetime.datetime]
    lastUpdate: Mapped[datetime.datetime]


def ispyb_tables() -> Mapping[str, Table]:
    """All tables of ISPyB that we touch, by name, wherever they are."""
    return {**Base.metadata.tables, **SiteBase.metadata.tables}
