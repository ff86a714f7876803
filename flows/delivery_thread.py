"""Delivers results to ISPyB beside the processing, which never waits for it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flows.databases import Databases
from flows.messages import one_line
from ispyb_io.delivery import Round, deliver
from ispyb_io.ledger import Ledger
from ispyb_io.outbox import Outbox
from ispyb_io.outbox_records import OutboxRecord, RecordState
from ispyb_io.protocol import IspybClient, IspybError, NotFoundError
from ispyb_io.results import Outgoing

logger = logging.getLogger(__name__)

BUSY_PAUSE_S = 0.2
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
STOP_S = 1.0


@dataclass(frozen=True)
class Sent:
    """What has become of the results of a run."""

    program_ids: tuple[int, ...] = ()
    """autoProcProgramIds of those that ISPyB has."""
    n_waiting: int = 0
    why: str = ""
    """Why they wait."""
    refusals: tuple[str, ...] = ()
    """One sentence for each that ISPyB refused, or one why it takes none."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What people must know; empty if ISPyB has everything."""
        if not self.n_waiting:
            return self.refusals
        n = f"{self.n_waiting} record{'s' if self.n_waiting > 1 else ''}"
        waits = f"{n} wait{'' if self.n_waiting > 1 else 's'} for ISPyB in the outbox ({self.why})"
        return (*self.refusals, waits)


class DeliveryThread:
    """Takes results into the outbox and delivers them from there, as long as it runs.

    Parameters
    ----------
    outbox, client, ledger
        The ledger hears of the autoProcProgramIds.
    """

    def __init__(self, outbox: Outbox, client: IspybClient, ledger: Ledger) -> None:
        self._outbox = outbox
        self._client = client
        self._ledger = ledger
        self._sent: list[int] = []
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._hurry = threading.Event()
        """Cuts a pause short."""
        self._tried_since_last = threading.Event()
        """A round that began after the last result was sent has ended without delivering all."""
        self._last = Round()
        self._bug = ""
        # a daemon: whoever is interrupted ends at once, and what is not delivered is in the outbox
        self._thread = threading.Thread(target=self._run, name="ispyb delivery", daemon=True)

    def start(self) -> None:
        """Begin with what waits from before."""
        self._wake.set()
        self._thread.start()

    def stop(self) -> None:
        """End after the record in hand; an ISPyB that does not answer is not waited for."""
        self._stop.set()
        self._hurry.set()
        self._wake.set()
        self._thread.join(timeout=STOP_S)

    def send(self, result: Outgoing, processing_key: str, proposal: str | None) -> None:
        """Put a result on its way; returns when it is on the disk."""
        self._sent.append(self._outbox.append(result, processing_key, proposal))
        self._tried_since_last.clear()
        self._wake.set()

    def settle(self, wait_s: float) -> Sent:
        """Wait for ISPyB to have all that was sent; no longer than given, or than ISPyB answers."""
        deadline = time.monotonic() + wait_s
        self._hurry.set()
        while True:
            records = self._outbox.among(self._sent)
            waiting = [record for record in records if record.state is RecordState.WAITING]
            given_up = self._bug or self._tried_since_last.is_set() or time.monotonic() > deadline
            if not waiting or given_up:
                return self._summary(records, len(waiting))
            time.sleep(0.02)

    def _summary(self, records: list[OutboxRecord], n_waiting: int) -> Sent:
        refusals = [
            f"ISPyB refused the result of {record.subject}: {record.reason}"
            for record in records
            if record.state is RecordState.REFUSED
        ]
        if n_waiting and (self._bug or self._last.unfit):
            refusals.append(f"ISPyB takes no results: {self._bug or self._last.stopped}")
        program_ids = {record.program_id for record in records if record.program_id is not None}
        return Sent(
            tuple(sorted(program_ids)),
            n_waiting,
            self._last.stopped or "it has not answered yet",
            tuple(dict.fromkeys(refusals)),
        )

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._last = self._round()
            except Exception as error:  # of whatever kind: a thread that dies unseen delivers nothing
                logger.exception("the delivery to ISPyB ended")
                self._bug = one_line(error)
                return
            if self._last.busy:
                self._stop.wait(BUSY_PAUSE_S)
                self._wake.set()
            elif self._last.stopped:
                self._hurry.wait(pause_s)
                self._hurry.clear()
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                self._wake.set()
            else:
                pause_s = FIRST_PAUSE_S

    def _round(self) -> Round:
        newest = len(self._sent)
        try:
            done = deliver(self._outbox, self._client, lambda *told: tell_ledger(self._ledger, *told))
        except IspybError as error:  # the outbox itself cannot be read just now
            done = Round(stopped=str(error))
        if done.stopped and not done.busy:
            logger.warning("results wait for ISPyB in the outbox: %s", done.stopped)
            if newest == len(self._sent):
                self._tried_since_last.set()
        return done


@contextmanager
def delivering(databases: Databases) -> Iterator[DeliveryThread | None]:
    """A thread that delivers while the block runs; None where there is no ISPyB."""
    if databases.outbox is None:
        yield None
        return
    thread = DeliveryThread(databases.outbox, databases.require_ispyb(), databases.ledger)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def deliver_now(databases: Databases, show: Callable[[], None] = lambda: None) -> Round:
    """Deliver what waits, until nothing does or ISPyB does not answer; shows that a record is delivered."""
    client, outbox = databases.require_ispyb(), databases.require_outbox()

    def tell(record: OutboxRecord, program_id: int | None) -> None:
        tell_ledger(databases.ledger, record, program_id)
        show()

    return deliver(outbox, client, tell)


def tell_ledger(ledger: Ledger, record: OutboxRecord, program_id: int | None) -> None:
    """Enter ISPyB's id at the processing of a record that was delivered."""
    if record.processing_key is None or program_id is None:
        return
    try:
        ledger.add_program_ids(record.processing_key, [program_id])
    except NotFoundError as error:  # another ledger, or a new one: ISPyB has the result all the same
        logger.warning("record %d of the outbox: %s", record.record_id, error)
