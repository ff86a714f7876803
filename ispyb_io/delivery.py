"""Delivers what waits in the outbox to ISPyB: oldest first, by one process at a time, each once.

"Once" needs no luck: a record is written to ISPyB by natural key, then marked. Who is killed between the
two leaves it waiting, and the next deliverer writes the same rows again before any later record.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ispyb_io.outbox import Outbox
from ispyb_io.outbox_records import OutboxRecord
from ispyb_io.protocol import IspybClient, IspybError, UnavailableError
from ispyb_io.results import CollectionResult, ImageQuality, Outgoing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """What became of one try to deliver everything."""

    n_delivered: int = 0
    n_refused: int = 0
    stopped: str = ""
    """Why it ended before all was delivered; empty if nothing waits any more."""
    unfit: bool = False
    """ISPyB answers, but takes nothing from us: wrong account, wrong schema. Waiting does not help."""
    busy: bool = False
    """Another process delivers just now."""


def deliver(
    outbox: Outbox,
    client: IspybClient,
    on_delivered: Callable[[OutboxRecord, int | None], None] = lambda record, program_id: None,
) -> Round:
    """Deliver what waits, until nothing does or ISPyB does not answer.

    Parameters
    ----------
    on_delivered
        Told of each record and its autoProcProgramId when ISPyB has it, before it is marked: who is
        killed here is told again. An UnavailableError from it is as good as one from ISPyB.
    """
    with _only_deliverer(outbox.path) as alone:
        if not alone:
            return Round(stopped="another process delivers just now", busy=True)
        delivered = refused = 0
        while (record := outbox.next_waiting()) is not None:
            try:
                program_id = _write(client, record.result())
                on_delivered(record, program_id)
            except UnavailableError as error:
                outbox.mark_tried(record, str(error))
                return Round(delivered, refused, stopped=str(error))
            except IspybError as error:
                if problem := _problem_of_all(client):
                    outbox.mark_tried(record, problem)
                    return Round(delivered, refused, stopped=problem, unfit=True)
                outbox.mark_refused(record, str(error))
                logger.warning("ISPyB refuses record %d, %s: %s", record.record_id, record.subject, error)
                refused += 1
            else:
                outbox.mark_delivered(record, program_id)
                delivered += 1
        if delivered:
            outbox.thin_out()
        return Round(delivered, refused)


@contextmanager
def _only_deliverer(outbox: Path) -> Iterator[bool]:
    """Whether we are the only one; the lock ends with the process, however that ends."""
    with outbox.with_name(f"{outbox.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _write(client: IspybClient, result: Outgoing) -> int | None:
    if isinstance(result, CollectionResult):
        return client.record_collection_result(result)
    if isinstance(result, ImageQuality):
        return client.record_image_quality(result)
    return client.record_merged_result(result)


def _problem_of_all(client: IspybClient) -> str:
    """Why ISPyB takes no result whatever; empty if it was about this one."""
    try:
        return "; ".join(client.offers().problems)
    except IspybError as error:
        return str(error)
