"""A client that tries again what failed in passing: a lost connection, a deadlock, a server that restarts.

Each write is one transaction that may be repeated, so the whole of it is. What still fails after a few
seconds is left to the outbox, which has all the time there is.
"""

import logging
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from ispyb_io.asked import Answer, AskedJob
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES, IspybClient, UnavailableError
from ispyb_io.records import DataCollectionGroup, Offers, Relation
from ispyb_io.results import CollectionResult, ImageQuality, MergedResult

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How often and for how long something is tried."""

    attempts: int = 5
    first_pause_s: float = 0.2
    """Doubled each time, and more or less by half at random, lest all come back at the same moment."""
    total_s: float = 15.0
    """No attempt begins later than this after the first."""


class RetryingClient:
    """IspybClient around another one.

    Parameters
    ----------
    client
        What is asked, and asked again while it raises UnavailableError.
    """

    def __init__(self, client: IspybClient, patience: Patience = Patience()) -> None:
        self._client = client
        self._patience = patience

    def find_groups(
        self,
        newer_than: int = 0,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
        limit: int = 100,
    ) -> list[DataCollectionGroup]:
        """Find groups that got a data collection with an id above ``newer_than``, oldest first."""
        return self._try(lambda: self._client.find_groups(newer_than, experiment_types, limit))

    def group(self, group_id: int) -> DataCollectionGroup:
        """One data collection group with its data collections."""
        return self._try(lambda: self._client.group(group_id))

    def related_groups(
        self,
        group_id: int,
        relation: Relation,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
    ) -> list[DataCollectionGroup]:
        """Find the groups that have sample, protein or sample group in common with one, and itself."""
        return self._try(lambda: self._client.related_groups(group_id, relation, experiment_types))

    def groups_with(
        self, *, data_collection_ids: Collection[int] = (), sample_ids: Collection[int] = ()
    ) -> list[DataCollectionGroup]:
        """Find the groups that hold one of these data collections, or have one of these samples."""
        return self._try(
            lambda: self._client.groups_with(data_collection_ids=data_collection_ids, sample_ids=sample_ids)
        )

    def record_collection_result(self, result: CollectionResult) -> int | None:
        """Write what processing one data collection gave; returns the autoProcProgramId."""
        return self._try(lambda: self._client.record_collection_result(result))

    def record_merged_result(self, result: MergedResult) -> int | None:
        """Write what merging data collections gave; returns the autoProcProgramId."""
        return self._try(lambda: self._client.record_merged_result(result))

    def record_image_quality(self, quality: ImageQuality) -> int | None:
        """Write what was seen on each image of a data collection; returns its result's autoProcProgramId."""
        return self._try(lambda: self._client.record_image_quality(quality))

    def asked_jobs(self) -> list[AskedJob]:
        """What somebody asks for in ISPyB and that is not answered for good, oldest first."""
        return self._try(self._client.asked_jobs)

    def answer_job(self, answer: Answer) -> int | None:
        """Write what becomes of a job; returns the autoProcProgramId of the one program that answers it."""
        return self._try(lambda: self._client.answer_job(answer))

    def offers(self) -> Offers:
        """Say what this ISPyB has, lacks and can take."""
        return self._try(self._client.offers)

    def _try(self, request: Callable[[], T]) -> T:
        began = time.monotonic()
        pause_s = self._patience.first_pause_s
        for attempt in range(1, self._patience.attempts + 1):
            try:
                return request()
            except UnavailableError as error:
                nap_s = pause_s * random.uniform(0.5, 1.5)  # noqa: S311
                late = time.monotonic() + nap_s - began > self._patience.total_s
                if attempt == self._patience.attempts or late:
                    raise
                logger.info("ISPyB, attempt %d: %s; the next in %.1f s", attempt, error, nap_s)
            time.sleep(nap_s)
            pause_s *= 2
        raise UnavailableError("ISPyB was not tried: 0 attempts are allowed")
