"""What any way to reach ISPyB can do, and the errors it promises.

* IspybError              catch this to catch them all
    - NotFoundError       there is no such row
    - RejectedError       ISPyB, or its schema, does not take this; trying again does not help
    - UnavailableError    ISPyB does not answer, or not now; the only one that is worth a retry

Nothing above this package learns of the exceptions of SQLAlchemy and httpx.
"""

from collections.abc import Collection
from typing import Protocol

from ispyb_io.asked import Answer, AskedJob
from ispyb_io.records import DataCollectionGroup, Offers, Relation
from ispyb_io.results import CollectionResult, ImageQuality, MergedResult

SSX_EXPERIMENT_TYPES = ("SSX-Chip", "SSX-Jet", "Serial Fixed", "Serial Jet")
"""The first two are ESRF's and MAX IV's names, the others Diamond's for the same, in the same order."""
PUNCTUATION = (" ", "-", "_")


def plain_label(label: str) -> str:
    """A label without case and punctuation.

    Examples
    --------
    >>> plain_label("SSX-CHIP") == plain_label("ssx chip")
    True
    """
    for mark in PUNCTUATION:
        label = label.replace(mark, "")
    return label.lower()


class IspybError(Exception):
    """Base of all errors that an ISPyB client raises on purpose."""


class NotFoundError(IspybError, LookupError):
    """There is no such row."""


class RejectedError(IspybError, ValueError):
    """ISPyB, or its schema, does not take this; trying again does not help."""


class UnavailableError(IspybError, ConnectionError):
    """ISPyB does not answer, or not now; worth a retry."""


class IspybClient(Protocol):
    """Reads data collection groups and records results; every write may be repeated."""

    def find_groups(
        self,
        newer_than: int = 0,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
        limit: int = 100,
    ) -> list[DataCollectionGroup]:
        """Find groups that got a data collection with an id above ``newer_than``, oldest first.

        The mark is a dataCollectionId and not a group's, because a beamline adds data collections
        to groups that exist. At most ``limit`` groups come at a time: ask again with the last
        one's ``newest_data_collection_id``.
        """
        ...

    def group(self, group_id: int) -> DataCollectionGroup:
        """One data collection group with its data collections; NotFoundError if there is none."""
        ...

    def related_groups(
        self,
        group_id: int,
        relation: Relation,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
    ) -> list[DataCollectionGroup]:
        """Find the groups that have sample, protein or sample group in common with one, and itself.

        NotFoundError if there is no such group, RejectedError if it has none of that.
        """
        ...

    def groups_with(
        self, *, data_collection_ids: Collection[int] = (), sample_ids: Collection[int] = ()
    ) -> list[DataCollectionGroup]:
        """Find the groups that hold one of these data collections, or have one of these samples."""
        ...

    def record_collection_result(self, result: CollectionResult) -> int | None:
        """Write what processing one data collection gave; returns the autoProcProgramId.

        There is one row for each data collection and key: a later success supersedes the rows before it.
        A FAILED one never replaces a SUCCESS; it is noted in that row's message. None: this ISPyB
        has no way to be told, as ``offers().limits`` says, or does not say the id.
        """
        ...

    def record_merged_result(self, result: MergedResult) -> int | None:
        """Write what merging data collections gave; returns the autoProcProgramId.

        There is one row for each name and key: a later success supersedes those it shares a member with.
        None as for a data collection.
        """
        ...

    def record_image_quality(self, quality: ImageQuality) -> int | None:
        """Write what was seen on each image of a data collection; returns its result's autoProcProgramId.

        Rows that hold the same are left alone, as are those of other programs. RejectedError if ISPyB has
        no result of this key, or a table cannot be read. None as for a data collection.
        """
        ...

    def asked_jobs(self) -> list[AskedJob]:
        """What somebody asks for in ISPyB and that is not answered for good, oldest first."""
        ...

    def answer_job(self, answer: Answer) -> int | None:
        """Write what becomes of a job; returns the autoProcProgramId of the one program that answers it."""
        ...

    def offers(self) -> Offers:
        """Say what this ISPyB has, lacks and can take."""
        ...
