"""One processing of a thing at a time, on whatever computer: a lock on the folder, a claim in the ledger."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from flows.folder_lock import BusyError, check_free, exclusive
from flows.settings import SiteSettings
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_claims import Claim, Owner
from ispyb_io.protocol import IspybError
from ssx_processing.errors import SsxError

BEAT_S = 3.0
"""Time from one sign of life to the next."""

FIRST_SEEN: dict[str, float] = {}
"""Monotonic time at which this process first saw a claim with this beat: it waits for it only once."""

logger = logging.getLogger(__name__)


class ClaimLostError(SsxError):
    """Another process took the work over, as this one seemed to be gone."""


class Held:
    """A claim while its work is done; a thread shows that we live."""

    def __init__(self, key: str, owner: Owner, ledger: Ledger) -> None:
        self._key, self._owner, self._ledger = key, owner, ledger
        self._end, self._is_lost = threading.Event(), False
        self._last_beat = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="claim")
        self._thread.start()

    def check(self) -> None:
        """Raise if the work is another's by now; to be asked before anything is written.

        Raises
        ------
        ClaimLostError
            It is.
        """
        if time.monotonic() - self._last_beat > 3 * BEAT_S:  # it was suspended, or without its ledger
            self._beat_once()
        if self._is_lost:
            raise ClaimLostError(
                "another process took this over while this one stood still (suspended, or without its "
                "ledger?); nothing more is written here"
            )

    def release(self) -> None:
        """The work is done, or has failed."""
        self._end.set()
        self._thread.join()
        with suppress(IspybError):  # it is seen to be gone
            self._ledger.claims.release(self._key, self._owner)

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            self._beat_once()

    def _beat_once(self) -> None:
        try:
            self._is_lost = not self._ledger.claims.beat(self._key, self._owner)
            self._last_beat = time.monotonic()
        except IspybError as error:  # who would take over cannot, either
            logger.debug("no sign of life: %s", error)
        except Exception:  # the thread must live on
            logger.warning("no sign of life was given", exc_info=True)


@contextmanager
def claimed(
    key: str, folder: Path, ledger: Ledger, site: SiteSettings, proposal: str | None = None
) -> Iterator[Held]:
    """Work on something for the block, alone.

    Raises
    ------
    BusyError
        Another process does, or the proposal has as many runs as the site allows.
    """
    with exclusive(folder):
        check_fair_use(key, ledger, site, proposal)
        owner = this_process()
        over = next(iter(ledger.claims.held(key=key)), None)
        if over is not None and not is_gone(over, ledger, site.claim_timeout_s):
            raise BusyError(_who(over))
        other = ledger.claims.take(key, owner, proposal or "", over=over)
        if other is not None:
            raise BusyError(_who(other))
        held = Held(key, owner, ledger)
        try:
            yield held
        finally:
            held.release()


def check_unclaimed(
    key: str, folder: Path, ledger: Ledger, site: SiteSettings, proposal: str | None = None
) -> None:
    """Look whether it could be claimed; changes nothing.

    Raises
    ------
    BusyError
        As `claimed`.
    """
    check_free(folder)
    for claim in ledger.claims.held(key=key):
        if not is_gone(claim, ledger, site.claim_timeout_s):
            raise BusyError(_who(claim))
    check_fair_use(key, ledger, site, proposal)


def check_fair_use(key: str, ledger: Ledger, site: SiteSettings, proposal: str | None) -> None:
    """Raise BusyError if the proposal has as many runs as the site allows, this one apart."""
    if site.runs_per_proposal is None or proposal is None:
        return
    others = [c for c in ledger.claims.held(proposal=proposal) if c.key != key]
    if len(others) >= site.runs_per_proposal:
        others = [claim for claim in others if not is_gone(claim, ledger, site.claim_timeout_s)]
    if len(others) >= site.runs_per_proposal:
        raise BusyError(
            f"{proposal} has {len(others)} runs, the site allows {site.runs_per_proposal} "
            "(SSX_RUNS_PER_PROPOSAL); this one waits for an end of them"
        )


def is_gone(claim: Claim, ledger: Ledger, timeout_s: float) -> bool:
    """Whether the owner of a claim is dead: at once on this computer, else when its beat stands still."""
    if claim.owner.host == _host():
        return _process_start(claim.owner.pid) != claim.owner.process_start
    first_seen = FIRST_SEEN.setdefault(claim.model_dump_json(), time.monotonic())
    while time.monotonic() < first_seen + timeout_s:
        time.sleep(min(1.0, timeout_s / 5))
        if ledger.claims.held(key=claim.key) != [claim]:
            return False
    return True


def this_process() -> Owner:
    """We, at a new piece of work."""
    pid = os.getpid()
    return Owner(token=uuid.uuid4().hex, host=_host(), pid=pid, process_start=_process_start(pid) or "")


@cache
def _host() -> str:
    """Name and boot of this computer, and its set of processes: containers have their own."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').stat().st_ino}"


def _process_start(pid: int) -> str | None:
    """Ticks from boot to the start of a process; None if there is none."""
    try:
        state, *_, start = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:20]
    except OSError:
        return None
    return None if state == "Z" else start


def _who(claim: Claim) -> str:
    host = claim.owner.host.split()[0]
    return f"it is being processed by process {claim.owner.pid} on {host}; wait for it, or end it"
