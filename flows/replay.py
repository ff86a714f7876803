"""What people do with the outbox: look, deliver now, try again or drop what ISPyB refused."""

import time
from collections.abc import Callable, Sequence

from flows.databases import Databases
from flows.delivery_thread import deliver_now
from ispyb_io.outbox import Outbox
from ispyb_io.outbox_records import OutboxRecord, RecordState
from ispyb_io.protocol import RejectedError, UnavailableError

BUSY_WAIT_S = 30.0


def replay(databases: Databases, show: Callable[[], None] = lambda: None) -> None:
    """Deliver now; shows that a record is delivered.

    Raises
    ------
    UnavailableError
        Something still waits.
    RejectedError
        ISPyB takes nothing from us.
    """
    outbox = databases.require_outbox()
    deadline = time.monotonic() + BUSY_WAIT_S
    while (done := deliver_now(databases, show)).busy and time.monotonic() < deadline:
        time.sleep(0.1)
    if done.stopped:
        n = outbox.count_waiting()
        error = RejectedError if done.unfit else UnavailableError
        raise error(f"{n} record{'s' if n > 1 else ''} still wait{'' if n > 1 else 's'}: {done.stopped}")


def retry(databases: Databases, which: str) -> int:
    """Let a refused record, by its number, or all of them wait again; returns how many."""
    outbox = databases.require_outbox()
    return outbox.retry() if which == "all" else outbox.retry(record_number(which))


def record_number(text: str) -> int:
    """Number of a record as given on the command line."""
    try:
        return int(text)
    except ValueError as error:
        raise RejectedError(
            f"{text!r} is no number of a record; see the first column of ssx ispyb outbox"
        ) from error


def raise_if_refused(outbox: Outbox) -> None:
    """Nothing ends green while ISPyB lacks what it refused.

    Raises
    ------
    RejectedError
        There are refused records.
    """
    n = len(outbox.records(RecordState.REFUSED))
    if n:
        raise RejectedError(
            f"ISPyB refused {n} record{'s' if n > 1 else ''}; see ssx ispyb outbox --refused, mend the "
            "cause, then --retry all, or --drop NUMBER"
        )


def outbox_line(outbox: Outbox) -> str:
    """How much is in the outbox, in one line; empty if ISPyB has everything."""
    waiting, refused = (outbox.records(state) for state in (RecordState.WAITING, RecordState.REFUSED))
    parts = []
    if waiting:
        parts.append(f"{len(waiting)} waiting since {waiting[0].enqueued:%Y-%m-%d %H:%M}")
    if refused:
        parts.append(f"{len(refused)} refused")
    return f"results not in ISPyB: {', '.join(parts)}; see ssx ispyb outbox" if parts else ""


def why_it_waits(record: OutboxRecord, outbox: Outbox) -> str:
    """Why ISPyB does not have a record."""
    if record.state is RecordState.WAITING and record.destination != outbox.destination:
        return f"is for {record.destination}, configured is {outbox.destination}"
    if not record.attempts:
        return "not tried yet"
    return f"{record.reason} ({record.attempts} {'try' if record.attempts == 1 else 'tries'})"


def listed(outbox: Outbox, *, refused_only: bool) -> Sequence[OutboxRecord]:
    """What to show: what was refused, then what waits."""
    refused = outbox.records(RecordState.REFUSED)
    return refused if refused_only else [*refused, *outbox.records(RecordState.WAITING)]
