"""Data collection groups, read from py-ispyb's events, sessions, samples and event chains."""

import logging
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from ispyb_io import records
from ispyb_io.protocol import NotFoundError, RejectedError
from ispyb_io.records import DataCollectionGroup, Relation
from ispyb_io.rest_records import ServedChain, ServedEvent, ServedSession, group_record
from ispyb_io.rest_samples import ServedSample
from ispyb_io.rest_session import PAGE_SIZE, Page, RestSession

logger = logging.getLogger(__name__)

CHAINS = ("eventchain", "eventchains")
"""The branch 192-implement-ssx-fundamentals has the first, ssx-webservice the second, master none."""


class RestReader:
    """Reads groups through a session.

    Parameters
    ----------
    session
        Asks the server.
    filters
        Parameters of ``/events``, a set for each part of what is to be found.
    """

    def __init__(self, session: RestSession, filters: Iterable[dict[str, str]] = ({},)) -> None:
        self._session = session
        self._filters = tuple(filters)
        self._newest: dict[tuple[int, int], int] = {}
        """Newest data collection of a group that has so many; that changes only when one joins."""
        self._sessions: dict[str, ServedSession] = {}
        self._chains: str | None = None
        """The one of CHAINS that the server has; empty: none; None: not known yet."""

    def find_groups(
        self, newer_than: int, experiment_types: Collection[str], limit: int
    ) -> list[DataCollectionGroup]:
        """Find groups that got a data collection with an id above ``newer_than``, oldest first.

        py-ispyb cannot be asked for what is new: it takes a request for each hundred groups of each
        experiment type, up to the first page without news, and one to four for each group found.
        """
        found: dict[int, ServedEvent] = {}
        for filters in self._filters:
            for experiment_type in experiment_types:
                found |= self._groups_above(newer_than, {**filters, "eventType": experiment_type})
        oldest_first = sorted(found.values(), key=self._newest_id)[:limit]
        return [
            self._group([event] if event.count == 1 else self._collections(event.group_id))
            for event in oldest_first
        ]

    def group(self, group_id: int) -> DataCollectionGroup:
        """One data collection group with its data collections."""
        return self._group(self._collections(group_id))

    def related_groups(
        self, group_id: int, relation: Relation, experiment_types: Collection[str]
    ) -> list[DataCollectionGroup]:
        """Find the groups that have sample or protein in common with one, and itself."""
        sample_id = self._collections(group_id)[0].sample_id
        if relation is Relation.SAMPLE_GROUP:
            raise RejectedError(f"{self._session.url} does not show sample groups; name the groups instead")
        if sample_id is None:
            raise RejectedError(f"data collection group {group_id} has no sample in ISPyB")
        filters = {"blSampleId": str(sample_id)}
        if relation is Relation.PROTEIN:
            sample = self._served_sample(sample_id)
            if sample is None or sample.Crystal.proteinId is None:
                raise RejectedError(
                    f"{self._session.url} does not show of which protein sample {sample_id} is; "
                    "name the groups instead"
                )
            filters = {"proteinId": str(sample.Crystal.proteinId)}
        found = {group_id}
        for experiment_type in experiment_types:
            found |= set(self._groups_above(0, {**filters, "eventType": experiment_type}))
        return [self.group(id_) for id_ in sorted(found)]

    def groups_with(
        self, data_collection_ids: Collection[int], sample_ids: Collection[int]
    ) -> list[DataCollectionGroup]:
        """Find the groups that hold one of these data collections, or have one of these samples."""
        filters = [{"dataCollectionId": str(id_)} for id_ in data_collection_ids]
        filters += [{"blSampleId": str(id_)} for id_ in sample_ids]
        found = {group_id for each in filters for group_id in self._groups_above(0, each)}
        return [self.group(id_) for id_ in sorted(found)]

    def require_collection(self, data_collection_id: int) -> None:
        """NotFoundError if there is no such data collection, or not for our eyes."""
        if not any(self._session.pages("events", dataCollectionId=data_collection_id)):
            raise NotFoundError(
                f"there is no data collection {data_collection_id} in ISPyB, "
                "or its proposal is not open to us"
            )

    def _groups_above(self, newer_than: int, filters: dict[str, str]) -> dict[int, ServedEvent]:
        """Groups with a data collection above the mark; pages end with the first that has none of them.

        But only if the last page fits too: versions of py-ispyb that order by the end, not by the
        start, put there what still runs.
        """
        found: dict[int, ServedEvent] = {}
        seen: list[ServedEvent] = []
        for page in self._session.pages("events", **filters):
            events = self._data_collections(page)
            news = {event.group_id: event for event in events if self._newest_id(event) > newer_than}
            found |= news
            seen += events
            if not news and _newest_start_first(seen):
                skip = max(page.total - PAGE_SIZE, 0)
                last = self._data_collections(self._session.page("events", skip, **filters))
                known = {event.id for event in seen}
                if _newest_start_first(seen + [event for event in last if event.id not in known]):
                    break
        return found

    def _data_collections(self, page: Page) -> list[ServedEvent]:
        """Those of the events that are one, or a group of them."""
        where = f"GET {self._session.url}/events"
        return [ServedEvent.of(row, where) for row in page.results if row.get("type") == "dc"]

    def _newest_id(self, event: ServedEvent) -> int:
        """Id of the newest data collection; an event of several names only the oldest, or the newest."""
        if event.count == 1:
            return event.Item.dataCollectionId
        key = (event.group_id, event.count)
        if key not in self._newest:
            ids = [member.Item.dataCollectionId for member in self._collections(event.group_id)]
            self._newest[key] = max(ids)
        return self._newest[key]

    def _collections(self, group_id: int) -> list[ServedEvent]:
        """An event for each data collection of a group; NotFoundError if there is none."""
        pages = self._session.pages("events", dataCollectionGroupId=group_id)
        events = [event for page in pages for event in self._data_collections(page)]
        if any(event.group_id != group_id for event in events):
            raise RejectedError(
                f"{self._session.url}/events does not know the parameter dataCollectionGroupId; "
                "a py-ispyb of 2022 or later is needed"
            )
        if not events:
            raise NotFoundError(
                f"there is no data collection group {group_id} in ISPyB, or its proposal is not open to us"
            )
        return events

    def _group(self, collections: list[ServedEvent]) -> DataCollectionGroup:
        first = collections[0]
        sample = None if first.sample_id is None else self._served_sample(first.sample_id)
        ids = [event.Item.dataCollectionId for event in collections]
        chains = {id_: self._event_chains(id_) for id_ in ids}
        return group_record(collections, self._session_of(first.session), sample and sample.record(), chains)

    def _served_sample(self, sample_id: int) -> ServedSample | None:
        path = f"samples/{sample_id}"
        try:
            return ServedSample.of(self._session.get(path), f"GET {self._session.url}/{path}")
        except NotFoundError:  # of another proposal, or gone
            return None

    def _session_of(self, name: str) -> ServedSession:
        """Session of this name; nothing known of one that is not shown to us."""
        if name not in self._sessions:
            path = f"sessions/{quote(name, safe='')}"
            try:
                served = ServedSession.of(self._session.get(path), f"GET {self._session.url}/{path}")
            except (NotFoundError, RejectedError) as error:  # names with other signs are rejected
                logger.debug("%s", error)
                served = ServedSession()
            self._sessions[name] = served
        return self._sessions[name]

    def _event_chains(self, data_collection_id: int) -> tuple[records.EventChain, ...]:
        """Event chains, from whichever of the two paths the server has."""
        paths = CHAINS if self._chains is None else (self._chains,)
        for path in filter(None, paths):
            try:
                rows = self._chain_rows(path, data_collection_id)
            except NotFoundError:
                continue
            self._chains = path
            where = f"GET {self._session.url}/{path}"
            chains = [ServedChain.of(row, where) for row in rows]
            return tuple(chain.record() for chain in sorted(chains, key=lambda chain: chain.eventChainId))
        self._chains = ""
        return ()

    def _chain_rows(self, path: str, data_collection_id: int) -> list[Any]:
        if path == CHAINS[0]:
            return list(self._session.get(path, dataCollectionId=data_collection_id))
        pages = self._session.pages(path, dataCollectionId=data_collection_id)
        return [row for page in pages for row in page.results]


def _newest_start_first(events: list[ServedEvent]) -> bool:
    starts = [event.startTime for event in events]
    return all(
        earlier is not None and later is not None and earlier > later for earlier, later in pairwise(starts)
    )
