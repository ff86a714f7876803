"""A group is processed by one process at a time, whoever watches, from whatever computer."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from flows import claim
from flows.claim import ClaimLostError, Held, check_unclaimed, claimed
from flows.databases import open_databases
from flows.folder_lock import BusyError
from flows.job import ProcessRequest
from flows.looks import Verdict
from flows.process import run_process
from flows.settings import SiteSettings
from flows.watch import run_watch
from ispyb_io.ledger import Ledger
from ispyb_io.ledger_claims import Owner
from tests.flows.rows import rows

KEY, PROPOSAL = "a1", "mx1"
WATCHER = """
import contextlib, os, sys
from flows.prefect_environment import prepare
prepare(quiet=True)
from flows import claim
claim.exclusive = lambda folder: contextlib.nullcontext()  # as on a file system without locks
claim.check_free = lambda folder: None
from flows.settings import SiteSettings
from flows.watch import run_watch
print("ready", flush=True)
sys.stdin.readline()
print(*[f"{look.verdict}: {look.detail}" for look in run_watch(SiteSettings())])
"""


@pytest.fixture
def ledger(site: SiteSettings) -> Iterator[Ledger]:
    with open_databases(site) as databases:
        yield databases.ledger


def elsewhere() -> Owner:
    return Owner(token="other", host="node7 boot 1", pid=1, process_start="1")  # noqa: S106


@contextmanager
def beating(ledger: Ledger, owner: Owner, key: str = KEY) -> Iterator[None]:
    """The owner is alive."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(0.05):
            ledger.claims.beat(key, owner)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_two_watchers_at_once_process_a_group_once_without_locks_of_the_file_system(
    group_id: int, site: SiteSettings, tmp_path: Path
):
    environment = os.environ | {"SSX_DATA_HOME": str(tmp_path)}
    watchers = [
        subprocess.Popen(
            [sys.executable, "-c", WATCHER],
            env=environment | {"PREFECT_HOME": str(tmp_path / f"prefect-{n}")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    for watcher in watchers:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
    said = []
    for watcher in watchers:
        assert watcher.stdin is not None
        watcher.stdin.write("go\n")
        watcher.stdin.flush()
    for watcher in watchers:
        said.append(watcher.communicate(timeout=200)[0])
        assert watcher.returncode == 0
    assert sorted(line.split(":")[0] for line in said) in (["done", "processed"], ["processed", "waiting"])
    (processing,) = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    assert (processing["status"], processing["attempts"]) == ("success", 1)
    assert len(rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxChunk")) == 8
    assert len(rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")) == 2
    (row,) = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxClaim")
    assert not row["isHeld"]


def test_a_claim_of_a_process_that_died_here_is_taken_over_at_once(
    ledger: Ledger, site: SiteSettings, tmp_path: Path
):
    dead = claim.this_process().model_copy(update={"process_start": "1"})
    ledger.claims.take(KEY, dead, PROPOSAL)
    check_unclaimed(KEY, tmp_path, ledger, site)
    with claimed(KEY, tmp_path, ledger, site, PROPOSAL):
        (held,) = ledger.claims.held()
        assert held.owner.token != dead.token
    assert ledger.claims.held() == []


def test_a_claim_of_another_computer_stands_while_it_beats_and_falls_when_it_does_not(
    ledger: Ledger, site: SiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site = site.model_copy(update={"claim_timeout_s": 1.0})
    ledger.claims.take(KEY, elsewhere(), PROPOSAL)
    jumps = count(step=1_000_000)  # a clock that is set ten days on, whenever it is looked at
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    with beating(ledger, elsewhere()), pytest.raises(BusyError, match="by process 1 on node7; wait for it"):
        check_unclaimed(KEY, tmp_path, ledger, site)
    with claimed(KEY, tmp_path, ledger, site, PROPOSAL):
        assert not ledger.claims.beat(KEY, elsewhere())


def test_who_was_taken_for_dead_stops(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claim, "BEAT_S", 0.01)
    owner = claim.this_process()
    ledger.claims.take(KEY, owner, PROPOSAL)
    held = Held(KEY, owner, ledger)
    held.check()
    while ledger.claims.take(KEY, elsewhere(), PROPOSAL, over=ledger.claims.held()[0]) is not None:
        pass  # it beat meanwhile
    time.sleep(1)  # many beats
    with pytest.raises(ClaimLostError, match="another process took this over"):
        held.check()
    held.release()
    assert [one.owner for one in ledger.claims.held()] == [elsewhere()]


def test_a_proposal_has_so_many_runs_at_a_time(
    group_id: int, ledger: Ledger, site: SiteSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSX_RUNS_PER_PROPOSAL", "1")
    ledger.claims.take("another", elsewhere(), PROPOSAL)
    with beating(ledger, elsewhere(), "another"):
        (waiting,) = run_watch(SiteSettings())
        assert waiting.verdict is Verdict.WAITING
        assert f"{PROPOSAL} has 1 runs, the site allows 1 (SSX_RUNS_PER_PROPOSAL)" in waiting.detail
        with pytest.raises(BusyError, match="the site allows 1"):
            run_process(ProcessRequest(group_id=group_id), SiteSettings())
    ledger.claims.release("another", elsewhere())
    assert [look.verdict for look in run_watch(SiteSettings())] == [Verdict.PROCESSED]


def test_a_run_whose_computer_died_counts_no_more_for_its_proposal(
    ledger: Ledger, site: SiteSettings, tmp_path: Path
):
    site = site.model_copy(update={"claim_timeout_s": 0.5, "runs_per_proposal": 1})
    ledger.claims.take("another", elsewhere(), PROPOSAL)
    check_unclaimed(KEY, tmp_path, ledger, site, PROPOSAL)
