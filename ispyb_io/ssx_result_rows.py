"""MAX IV's SSXProcessingResult: the rates of a data collection, preliminary while chunks run, then final."""

import datetime
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table

from ispyb_io import site_tables
from ispyb_io.attempts import environment
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.results import CollectionResult, ResultStatus, shorten
from ispyb_io.transactions import find, insert_row, put

RESULT = table(site_tables.SSXProcessingResult)
ATTACHMENT = table(site_tables.SSXProcessingResultAttachment)
STATUS = {ResultStatus.RUNNING: "Running", ResultStatus.FAILED: "Failed", ResultStatus.SUCCESS: "Success"}
PRELIMINARY = ("Preliminary", "Real-time processing results")
FINAL = ("Final", "Processing results")


def put_ssx_result(
    connection: Connection, flavour: Flavour, result: CollectionResult, now: datetime.datetime, *, holds: bool
) -> None:
    """Put the row of a data collection, where there is a table for it; rates are fractions there too.

    There is one preliminary and one final row for each data collection, as there is no key for more.

    Parameters
    ----------
    holds
        The result is the one that holds for its data collection; else it only ends what it began.
    """
    if not flavour.has(RESULT.name):
        return
    comments = shorten(environment(result.key), 100)
    finished = result.status is not ResultStatus.RUNNING
    if finished:
        _end_preliminary(connection, flavour, result, comments, now)
    if not holds:
        return
    indexing_type, file_type = FINAL if finished else PRELIMINARY
    key = {
        "dataCollectionId": result.data_collection_id,
        "indexingType": flavour.label(RESULT.name, "indexingType", indexing_type),
    }
    values = {
        "hitRate": result.hit_rate,
        "indexingRate": result.indexing_rate,
        "nbCrystals": result.n_crystals,
        "status": flavour.label(RESULT.name, "status", STATUS[result.status]),
        "comments": comments,
        "lastUpdate": now,
    }
    id_ = _put(connection, RESULT, key, flavour.known(RESULT, values), now)
    if not flavour.has(ATTACHMENT.name):
        return
    label = flavour.label(ATTACHMENT.name, "fileType", file_type)
    for attachment in result.attachments:
        values = {"filePath": str(attachment.path.parent), "fileType": label, "lastUpdate": now}
        _put(
            connection,
            ATTACHMENT,
            {"ssxProcessingResultId": id_, "fileName": attachment.path.name},
            values,
            now,
        )


def _end_preliminary(
    connection: Connection, flavour: Flavour, result: CollectionResult, comments: str, now: datetime.datetime
) -> None:
    """The preliminary row of a result that has ended does not say "running" for ever."""
    key = {
        "dataCollectionId": result.data_collection_id,
        "indexingType": PRELIMINARY[0],
        "comments": comments,
    }
    if find(connection, RESULT, key) is not None:
        status = flavour.label(RESULT.name, "status", STATUS[result.status])
        put(connection, RESULT, key, {"status": status, "lastUpdate": now})


def _put(
    connection: Connection,
    into: Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    now: datetime.datetime,
) -> int:
    if find(connection, into, key) is None:
        return insert_row(connection, into, {**key, **values, "createdTimeStamp": now})
    return put(connection, into, key, values)
