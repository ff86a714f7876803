"""ISPyB through the REST API of py-ispyb, as far as that goes.

It can read events, sessions and samples, and its SSX web service takes one kind of result: a data
collection's success with its two JSON files. What it cannot take is said once in the log, and in
``offers().limits``; the results themselves lie in the files and in the ledger.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ispyb_io.asked import Answer, AskedJob
from ispyb_io.protocol import SSX_EXPERIMENT_TYPES, NotFoundError, RejectedError, UnavailableError
from ispyb_io.records import DataCollectionGroup, Offers, Relation
from ispyb_io.rest_address import RestAddress, parse_rest_address
from ispyb_io.rest_reader import RestReader
from ispyb_io.rest_receipt import locked_receipt
from ispyb_io.rest_session import LostReplyError, RestSession, open_http
from ispyb_io.results import CollectionResult, ImageQuality, MergedResult, ResultStatus
from ispyb_io.ssx_files import STATS_NAME

logger = logging.getLogger(__name__)

STATS = "ssx/datacollection/processing/stats"
WRITING_PERMISSION = "ssx_sync"
LIMITS = {
    "running": "that a result is running; the two JSON files of the SSX page grow from the first success on",
    "failed": "that a result failed, since py-ispyb enters whatever it is told as a success",
    "later": "messages and times of a later success: the two JSON files are replaced in place, the row stays",
    "merged": "merged results: py-ispyb has no way to be told of them",
    "images": "what was seen on each image: py-ispyb has no way to be told of it",
    "cells": "median cells, image ranges, and file types: all attachments are of type Result",
}


def open_rest(address: str | RestAddress) -> "RestClient":
    """Client for an address; nothing is connected yet. Close it at the end."""
    parsed = parse_rest_address(address) if isinstance(address, str) else address
    return RestClient(RestSession(open_http(parsed), parsed), parsed.filters())


class RestClient:
    """IspybClient on py-ispyb; safe to use from several threads.

    Parameters
    ----------
    session
        From ``open_rest``, or on a transport of a test.
    filters
        Parameters of ``/events``, a set for each part of what is to be found.
    """

    def __init__(self, session: RestSession, filters: Iterable[dict[str, str]] = ({},)) -> None:
        self._session = session
        self._reader = RestReader(session, filters)
        self._has_ssx: bool | None = None
        self._said: set[str] = set()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def find_groups(
        self,
        newer_than: int = 0,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
        limit: int = 100,
    ) -> list[DataCollectionGroup]:
        """Find groups that got a data collection with an id above ``newer_than``, oldest first."""
        return self._reader.find_groups(newer_than, experiment_types, limit)

    def group(self, group_id: int) -> DataCollectionGroup:
        """One data collection group with its data collections."""
        return self._reader.group(group_id)

    def related_groups(
        self,
        group_id: int,
        relation: Relation,
        experiment_types: Collection[str] = SSX_EXPERIMENT_TYPES,
    ) -> list[DataCollectionGroup]:
        """Find the groups that have sample or protein in common with one, and itself."""
        return self._reader.related_groups(group_id, relation, experiment_types)

    def groups_with(
        self, *, data_collection_ids: Collection[int] = (), sample_ids: Collection[int] = ()
    ) -> list[DataCollectionGroup]:
        """Find the groups that hold one of these data collections, or have one of these samples."""
        return self._reader.groups_with(data_collection_ids, sample_ids)

    def record_collection_result(self, result: CollectionResult) -> int | None:
        """Tell of a success, once; see the limits for what else is not told."""
        if result.status is not ResultStatus.SUCCESS:
            return self._not_told("running" if result.status is ResultStatus.RUNNING else "failed")
        id_ = result.data_collection_id
        stats = next((a for a in result.attachments if a.path.name == STATS_NAME), None)
        if stats is None:
            self._say_once(f"data collection {id_} has no {STATS_NAME}; py-ispyb is not told of it")
            return None
        if not self._takes_results():
            self._say_once(f"{self._session.url} has no web service for SSX; it is told of no results")
            return None
        with locked_receipt(stats.path.parent) as receipt:
            noted = receipt.find(self._session.url, id_)
            if noted is not None:
                return noted["autoProcProgramId"]
            shown = self._shown_stats(id_)
            if shown and not _shows(shown, stats.path):
                self._say_once(
                    f"data collection {id_} has statistics of SSX in ISPyB, of another program or of "
                    "results in another folder; nothing is added, as the SSX page would count both"
                )
                return None
            program_id = None if shown else self._post(result)
            receipt.add(self._session.url, id_, program_id)
        self._check_that_it_shows(id_, stats.path)
        return program_id

    def record_merged_result(self, result: MergedResult) -> int | None:
        """Say that py-ispyb has no way to be told."""
        return self._not_told("merged")

    def record_image_quality(self, quality: ImageQuality) -> int | None:
        """Say that py-ispyb has no way to be told."""
        return self._not_told("images")

    def asked_jobs(self) -> list[AskedJob]:
        """None: py-ispyb has no way to ask."""
        return []

    def answer_job(self, answer: Answer) -> None:
        """Nobody can have asked."""

    def offers(self) -> Offers:
        """Say what this py-ispyb can take; asked anew each time."""
        self._has_ssx = None
        return Offers(
            dialect="py-ispyb",
            server_version=f"at {self._session.url}",
            tables=(),
            missing_tables=(),
            missing_columns=(),
            experiment_types=None,
            problems=tuple(self._problems()),
            limits=tuple(f"It is not told {limit}." for limit in LIMITS.values()),
        )

    def _takes_results(self) -> bool:
        """Whether the server has the SSX web service; asked once."""
        if self._has_ssx is None:
            try:
                self._session.get(STATS, dataCollectionIds="0")
                self._has_ssx = True
            except NotFoundError:
                self._has_ssx = False
        return self._has_ssx

    def _shown_stats(self, data_collection_id: int) -> list[dict[str, Any]]:
        """Content of each statistics file attached to the data collection that the server can read."""
        rows = self._session.get(STATS, dataCollectionIds=str(data_collection_id))
        if not isinstance(rows, list):
            raise RejectedError(f"GET {self._session.url}/{STATS}: expected a list, got {str(rows)[:80]!r}")
        return rows

    def _post(self, result: CollectionResult) -> int | None:
        """Tell once. If no answer comes, look whether it was done; None: it was, the id is not known."""
        id_ = result.data_collection_id
        # unknown to the server it is a 500; nor does it look whether the proposal is open to us
        self._reader.require_collection(id_)
        body = {
            "processingPrograms": result.program,
            "processingCommandLine": result.command_line,
            "processingMessage": result.message,
            "processingStartTime": result.started and result.started.isoformat(),
            "processingEndTime": result.ended and result.ended.isoformat(),
            "processingEnvironment": f"ssxorch:{result.key}",
            "results": [str(attachment.path) for attachment in result.attachments],
        }
        try:
            answer = self._session.post(f"webservices/ssx/datacollection/{id_}/processing", body)
        except LostReplyError as error:
            if not self._session.wait_until(lambda: bool(self._shown_stats(id_))):
                raise
            logger.warning("data collection %d: entered in ISPyB, though %s", id_, error)
            return None
        return answer if isinstance(answer, int) else None

    def _check_that_it_shows(self, data_collection_id: int, stats: Path) -> None:
        try:
            shows = bool(self._shown_stats(data_collection_id))
        except UnavailableError:  # 500 where the server may not open the file
            shows = False
        if not shows:
            self._say_once(
                f"py-ispyb does not show {stats}; its server must see it, and be allowed to, under this path"
            )

    def _problems(self) -> Iterator[str]:
        if not self._takes_results():
            yield f"{self._session.url} has no web service for SSX (/{STATS}); results cannot be told"
        if WRITING_PERMISSION not in self._session.permissions:
            yield f"the account lacks the permission {WRITING_PERMISSION}; it can read but not tell results"

    def _not_told(self, limit: str) -> None:
        self._say_once(f"py-ispyb is not told {LIMITS[limit]}")

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning("%s", message)


def _shows(rows: list[dict[str, Any]], stats: Path) -> bool:
    """Whether one of the rows is this file: the server reads it anew for each request."""
    ours = json.loads(stats.read_text())
    return any({name: row.get(name) for name in ours} == ours for row in rows)
