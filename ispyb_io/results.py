"""What is written to ISPyB: the result of one data collection, and of several merged together.

ISPyB holds 255 characters in most columns. Messages and command lines are shortened with a
visible "…"; a path that does not fit is an error, since a shortened path is a wrong one.
"""

import datetime
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from ispyb_io.records import Record, UnitCell

MAX_TEXT = 255
"""Characters in ISPyB's message, command line, environment, comments, path and file name."""


def shorten(text: str, length: int = MAX_TEXT) -> str:
    """Text of at most ``length`` characters; what was cut off is marked.

    Examples
    --------
    >>> shorten("chunk 14 is truncated", 10)
    'chunk 14 …'
    >>> shorten("chunk 14", 10)
    'chunk 14'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} is relative; others open files by their absolute path")
    return path


def _absolute_and_short_enough(path: Path) -> Path:
    _absolute(path)
    for what, text in (("folder", str(path.parent)), ("name", path.name)):
        if len(text) > MAX_TEXT:
            raise ValueError(
                f"the {what} of {path} has {len(text)} characters, ISPyB holds {MAX_TEXT}; "
                "write results to a shorter path"
            )
    return path


def _none_if_not_finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _local_without_zone(time: datetime.datetime | None) -> datetime.datetime | None:
    """ISPyB's columns hold local time in whole seconds; MariaDB cuts fractions, MySQL rounds them."""
    if time is None:
        return None
    if time.tzinfo is not None:
        time = time.astimezone().replace(tzinfo=None)
    return time.replace(microsecond=0)


Shortened = Annotated[str, AfterValidator(shorten)]
Time = Annotated[datetime.datetime | None, AfterValidator(_local_without_zone)]
Number = Annotated[float | None, BeforeValidator(_none_if_not_finite)]
"""NaN and infinity become None: SQL knows neither."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MeasuredCell = tuple[Positive, Positive, Positive, Positive, Positive, Positive]
ResultKey = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.-]+$")]
"""Hash of everything that the result depends on."""


class ResultStatus(StrEnum):
    """State of a result, with ISPyB's own words."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class FileType(StrEnum):
    """Kind of an attachment, with the words that every ISPyB knows."""

    LOG = "Log"
    RESULT = "Result"
    GRAPH = "Graph"


class Attachment(Record):
    """A file shown with a result."""

    path: Annotated[Path, AfterValidator(_absolute_and_short_enough)]
    file_type: FileType = FileType.RESULT
    importance: Annotated[int, Field(ge=1, le=127)] = 2
    """1 is shown first, where ISPyB ranks files."""


class Severity(StrEnum):
    """Weight of a message, with ISPyB's own words."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Message(Record):
    """One thing to tell people about a result, where ISPyB has a table for it."""

    severity: Severity
    text: Annotated[str, Field(min_length=1), AfterValidator(lambda text: shorten(text, 200))]
    """Headline; a result says each only once."""
    description: str = ""
    """The whole of it, as long as it needs to be."""


class _Result(Record):
    """What results of both kinds have."""

    key: ResultKey
    program: Shortened
    """Name shown in the lists of results."""
    command_line: Shortened = ""
    status: ResultStatus
    message: Shortened = ""
    """One line for the lists, e.g. "800 hits (40.0 %), 640 indexed (80.0 % of hits), 10 of 10 chunks"."""
    started: Time = None
    """When this run began, not when its chunks were first computed: it decides what is the later result."""
    ended: Time = None
    attachments: tuple[Attachment, ...] = ()
    messages: tuple[Message, ...] = ()
    """Written when the result is finished, not while it grows."""

    @model_validator(mode="after")
    def _one_attachment_of_a_name(self) -> Self:
        names = [attachment.path.name for attachment in self.attachments]
        if len(set(names)) < len(names):
            raise ValueError(f"two attachments of one name among {sorted(names)}; rename one")
        return self


class CollectionResult(_Result):
    """What processing one data collection gave, summed over its chunks."""

    data_collection_id: int
    first_image: PositiveInt = 1
    last_image: PositiveInt
    median_cell: MeasuredCell | None = None
    """Over all lattices; None without any."""
    hit_rate: Number = None
    """Hits / images looked at."""
    indexing_rate: Number = None
    """Hits with at least one lattice / hits."""
    n_crystals: int | None = None
    """Lattices over all images."""


class MergedMember(Record):
    """The part that one data collection has in a merged result."""

    data_collection_id: int
    first_image: PositiveInt = 1
    last_image: PositiveInt
    median_cell: MeasuredCell | None = None


class ResolutionShell(StrEnum):
    """The three shells that ISPyB keeps, with its words."""

    OVERALL = "overall"
    INNER = "innerShell"
    OUTER = "outerShell"


class MergingStatistics(Record):
    """Statistics of one shell; fractions, never per cent."""

    resolution_shell: ResolutionShell
    d_max: Positive
    """Å, low-resolution limit."""
    d_min: Positive
    """Å, high-resolution limit."""
    n_observations: int
    n_reflections: int
    """Unique reflections measured."""
    completeness: Number = None
    multiplicity: Number = None
    mean_i_over_sigma: Number = None
    cc_half: Number = None
    cc_star: Number = None
    r_split: Number = None
    r_merge: Number = None
    """This and the next two: over all observations, Friedel mates together."""
    r_meas: Number = None
    r_pim: Number = None
    cc_anomalous: Number = None
    """Correlation of the anomalous differences of two half sets."""
    anomalous_completeness: Number = None
    d_where_i_is_2_sigma: Number = None
    """Å, resolution to which the mean of I/sigma(I) stays above 2; of all data only."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if self.d_min >= self.d_max:
            raise ValueError(
                f"d_min {self.d_min} Å is not below d_max {self.d_max} Å; are the two interchanged?"
            )
        return self


class MergedResult(_Result):
    """What merging one or more data collections gave."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """What was merged, e.g. "chip 7: dark". A later success of the same name supersedes this one."""
    members: Annotated[tuple[MergedMember, ...], Field(min_length=1)]
    ever_members: frozenset[int] = frozenset()
    """Data collections that an earlier result of this name may be recorded at, though they are in this one no
    more: those that were ever in the group."""
    sample_group_id: int | None = None
    """BLSampleGroup that all members belong to."""
    sample_id: int | None = None
    """BLSample that all members are of."""
    space_group: Annotated[str, Field(min_length=1, max_length=45)] | None = None
    """e.g. P43212. Required of a success, like the cell and the overall statistics."""
    unit_cell: MeasuredCell | None = None
    statistics: tuple[MergingStatistics, ...] = ()

    @model_validator(mode="after")
    def _members_once(self) -> Self:
        ids = [member.data_collection_id for member in self.members]
        if len(set(ids)) < len(ids):
            raise ValueError(f"a data collection is listed twice among the members {sorted(ids)}")
        return self

    @model_validator(mode="after")
    def _success_is_complete(self) -> Self:
        shells = [statistics.resolution_shell for statistics in self.statistics]
        if len(set(shells)) < len(shells):
            raise ValueError(f"statistics of a shell are given twice: {[str(shell) for shell in shells]}")
        whole = self.space_group and self.unit_cell and ResolutionShell.OVERALL in shells
        if self.status is ResultStatus.SUCCESS and not whole:
            raise ValueError(
                "a merge that succeeded needs space group, unit cell and overall statistics, got "
                f"{self.space_group}, {self.unit_cell}, {[str(shell) for shell in shells]}"
            )
        return self


class ImageQuality(Record):
    """What was seen on the images of a data collection, as it lies in tables on disk."""

    key: ResultKey
    """Of the `CollectionResult` whose images they are; ISPyB has that first."""
    data_collection_id: int
    tables: Annotated[tuple[Annotated[Path, AfterValidator(_absolute)], ...], Field(min_length=1)]
    """Parquet tables of frames; columns ``frame`` (from 0; image 1 is frame 0), ``status``, ``n_spots``,
    ``resolution_estimate`` (Å), ``total_intensity``."""

    @property
    def status(self) -> ResultStatus:
        """Images are told of once, when they are all processed."""
        return ResultStatus.SUCCESS


Outgoing = CollectionResult | MergedResult | ImageQuality
"""What may be told to ISPyB."""


__all__ = [
    "Attachment",
    "CollectionResult",
    "FileType",
    "ImageQuality",
    "MergedMember",
    "MergedResult",
    "MergingStatistics",
    "Message",
    "Outgoing",
    "ResolutionShell",
    "ResultStatus",
    "Severity",
    "UnitCell",
    "shorten",
]
