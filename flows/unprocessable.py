"""Groups that cannot be processed, e.g. for want of images: the ledger and ISPyB are told why."""

from pathlib import Path

from flows.databases import Databases
from flows.delivery_thread import deliver_now
from flows.provenance import PROGRAM, user_name, versions
from flows.result_messages import failure_messages
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.records import DataCollectionGroup
from ispyb_io.results import CollectionResult, ResultStatus
from ssx_processing.settings import content_key


def record_unprocessable(group: DataCollectionGroup, message: str, databases: Databases) -> None:
    """Enter, once for each message, that a group cannot be processed, and at its data collections why."""
    collections = group.data_collections
    key = content_key({"unprocessable": [c.data_collection_id for c in collections], "why": message})
    before = databases.ledger.processing(key)
    if before is not None and before.status is WorkStatus.FAILED:
        return
    databases.ledger.begin(
        key,
        folder=Path(),
        settings={},
        versions=versions(),
        data_collection_group_id=group.group_id,
        started_by=user_name(),
    )
    for collection in collections:
        result = CollectionResult(
            key=key,
            program=PROGRAM,
            status=ResultStatus.FAILED,
            message=message,
            messages=failure_messages(message),
            data_collection_id=collection.data_collection_id,
            last_image=collection.n_images or 1,
        )
        databases.require_outbox().append(result, key, group.proposal)
    databases.ledger.finish(key, WorkStatus.FAILED, message=message)
    deliver_now(databases)
