"""Whoever is killed, wherever: ISPyB ends up with the rows of an undisturbed run.

A child runs a job, which puts results into the outbox and delivers them, and is killed at its n-th
statement or commit in any of the three databases, for each n. What it had put into the outbox must come
to ISPyB without it; and when the job is done again, the rows are those of a job that nobody disturbed.
"""

import contextlib
import multiprocessing
import os
import random
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, event

from ispyb_io.beamline import CollectedChip, write_collected_chip
from ispyb_io.column_types import table
from ispyb_io.delivery import deliver
from ispyb_io.engines import open_engine
from ispyb_io.ledger import Ledger
from ispyb_io.orm_client import OrmClient
from ispyb_io.outbox import Outbox
from ispyb_io.outbox_records import RecordState
from ispyb_io.results import CollectionResult, MergedResult, ResultStatus

from .made_results import LATER, RESULT_TABLES, collection_result, merged_result, without_numbers
from .rows import rows

FORK = multiprocessing.get_context("fork")
HERE = "here"
KEY = "processing1"
RUNNING, SUCCESS, FAILED = ResultStatus
EVERY = {"sqlite": 11, "mysql": 29}
"""Every how manieth crash point has its turn, from a random one on: over a few runs all have."""


@dataclass(frozen=True)
class Place:
    """Where the databases of a test are; engines are opened by each process for itself."""

    ispyb_url: URL
    folder: Path

    @contextlib.contextmanager
    def opened(
        self, at_boundary: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[Outbox, OrmClient, Ledger]]:
        ispyb = open_engine(self.ispyb_url)
        outbox = open_engine(self.folder / "outbox.sqlite", create=True, durable=True)
        ledger = open_engine(self.folder / "ledger.sqlite", create=True)
        for engine in (ispyb, outbox, ledger):
            event.listen(engine, "before_cursor_execute", lambda *_: at_boundary())
            event.listen(engine, "commit", lambda *_: at_boundary())
        try:
            yield Outbox(outbox, HERE), OrmClient(ispyb), Ledger(ledger)
        finally:
            ispyb.dispose()

    def deliver(self, at_boundary: Callable[[], None] = lambda: None) -> None:
        with self.opened(at_boundary) as (outbox, client, ledger):
            deliver_all(outbox, client, ledger)


def deliver_all(outbox: Outbox, client: OrmClient, ledger: Ledger) -> None:
    deliver(outbox, client, lambda record, program_id: ledger.add_program_ids(KEY, [program_id or 0]))


def results_of_a_job(collection_id: int) -> list[CollectionResult | MergedResult]:
    """A chip that fails with other settings after a success, and is processed and merged at last."""
    merged = merged_result(collection_id)
    growing: dict[str, Any] = {"status": RUNNING, "ended": None}
    return [
        collection_result(collection_id),
        merged,
        collection_result(collection_id, key="key2", started=LATER, message="1 of 2", **growing),
        collection_result(collection_id, key="key2", started=LATER, message="2 of 2", **growing),
        collection_result(collection_id, key="key2", started=LATER, status=FAILED),
        without_numbers(merged, FAILED, key="merge2", started=LATER),
        collection_result(collection_id, key="key3", started=LATER, message="3", **growing),
        collection_result(collection_id, key="key3", started=LATER, message="all"),
        merged_result(collection_id, key="merge3", started=LATER),
    ]


def run_job(
    place: Place,
    results: list[CollectionResult | MergedResult],
    at_boundary: Callable[[], None] = lambda: None,
    sent: Callable[[int], None] = lambda n: None,
) -> None:
    """Send all results, in the order in which they come, and deliver twice in between."""
    with place.opened(at_boundary) as (outbox, client, ledger):
        for n, result in enumerate(results):
            outbox.append(result, KEY)
            sent(n)
            if n in (1, 4):
                deliver_all(outbox, client, ledger)
        deliver_all(outbox, client, ledger)


class KilledAt:
    """Ends this process, as a power cut would, at its n-th boundary."""

    def __init__(self, n: int) -> None:
        self._left = n

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(act: Callable[..., None], *arguments: Any) -> int:
    """Run in a child; returns its exit code."""
    child = FORK.Process(target=act, args=arguments)
    child.start()
    child.join()
    return child.exitcode or 0


def snapshot(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """All that we write but ids, which a rolled back transaction may use up, and times of writing.

    Where a text names the id of a program, what that program is known by stands for it.
    """
    left_out = ("recordTimeStamp", "autoProc")
    known_by = {
        str(row["autoProcProgramId"]): row["processingEnvironment"] for row in rows(engine, RESULT_TABLES[0])
    }

    def timeless(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return re.sub(r"program (\d+)", lambda match: f"program {known_by[match[1]]}", value)

    return {
        table(model).name: [
            tuple(timeless(value) for name, value in row.items() if not name.startswith(left_out))
            for row in rows(engine, model)
        ]
        for model in RESULT_TABLES
    }


def emptied(place: Place, engine: Engine) -> None:
    """Nothing recorded, nothing waiting, and a processing in the ledger."""
    with engine.begin() as connection:
        for model in reversed(RESULT_TABLES):
            connection.execute(table(model).delete())
    template = place.folder.with_name("template")
    if not template.exists():
        with Place(place.ispyb_url, template).opened() as (outbox, _, ledger):
            outbox.create_tables()
            ledger.create_tables()
            ledger.begin(KEY, folder=template, settings={}, versions={})
    shutil.rmtree(place.folder, ignore_errors=True)
    shutil.copytree(template, place.folder)


@pytest.fixture(params=["sqlite_ispyb", "mariadb_ispyb"])
def ispyb(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(request.param)


@pytest.fixture
def place(ispyb: Engine, tmp_path: Path) -> Place:
    return Place(ispyb.url, tmp_path / "ours")


@pytest.fixture
def results(ispyb: Engine, chip: CollectedChip) -> list[CollectionResult | MergedResult]:
    return results_of_a_job(write_collected_chip(ispyb, chip).data_collection_id)


def n_boundaries(place: Place, results: list[CollectionResult | MergedResult]) -> int:
    counted: list[None] = []
    run_job(place, results, lambda: counted.append(None))
    return len(counted)


def test_a_job_killed_at_any_statement_or_commit_loses_and_doubles_nothing(
    place: Place, ispyb: Engine, results: list[CollectionResult | MergedResult]
):
    emptied(place, ispyb)
    n_points = n_boundaries(place, results)
    undisturbed = snapshot(ispyb)
    assert all(undisturbed.values())
    step = EVERY[ispyb.dialect.name]
    for n in range(1 + secrets.randbelow(step), n_points + 1, step):
        emptied(place, ispyb)
        last_sent = FORK.Value("i", -1)

        def note(index: int, last_sent: Any = last_sent) -> None:
            last_sent.value = index

        assert in_child(run_job, place, results, KilledAt(n), note) == -signal.SIGKILL, n
        place.deliver()
        assert_all_sent_arrived(place, ispyb, results, last_sent.value)
        run_job(place, results)
        assert snapshot(ispyb) == undisturbed, f"killed at {n} of {n_points}"


def assert_all_sent_arrived(
    place: Place, ispyb: Engine, results: list[CollectionResult | MergedResult], last_sent: int
) -> None:
    """What append returned for is in ISPyB; so may be the next, whose append was killed on its way back."""
    programs = rows(ispyb, RESULT_TABLES[0])
    recorded = {program["processingEnvironment"] for program in programs}
    failed_merges = {environment(r) for r in results if isinstance(r, MergedResult) and r.status is FAILED}
    assert {environment(result) for result in results[: last_sent + 1]} - failed_merges <= recorded
    assert recorded <= {environment(result) for result in results[: last_sent + 2]}
    with place.opened() as (outbox, _, ledger):
        assert (outbox.count_waiting(), outbox.records(RecordState.REFUSED)) == (0, [])
        processing = ledger.processing(KEY)
        assert processing is not None
        assert set(processing.program_ids) == {program["autoProcProgramId"] for program in programs}


def environment(result: CollectionResult | MergedResult) -> str:
    """What a program is known by."""
    return f"ssxorch:{result.key}" + (f" merge:{result.name}" if isinstance(result, MergedResult) else "")


def deliver_with_accidents(place: Place, seed: int, done: Any) -> None:
    """Deliver again and again, with naps at random boundaries, until told that all is sent."""
    chance = random.Random(seed)  # noqa: S311

    def at_boundary() -> None:
        if chance.random() < 0.02:
            time.sleep(chance.random() * 0.005)
        if chance.random() < 0.004:
            os.kill(os.getpid(), signal.SIGKILL)

    while not done.value:
        place.deliver(at_boundary)
        time.sleep(0.002)


@pytest.mark.parametrize("seed", range(2))
def test_deliverers_that_run_and_die_side_by_side_leave_the_rows_of_one(
    place: Place, ispyb: Engine, results: list[CollectionResult | MergedResult], seed: int
):
    emptied(place, ispyb)
    run_job(place, results)
    undisturbed = snapshot(ispyb)
    emptied(place, ispyb)
    chance, done = random.Random(seed), FORK.Value("i", 0)  # noqa: S311
    children = [
        FORK.Process(target=deliver_with_accidents, args=(place, 10 * seed + i, done)) for i in range(3)
    ]
    for child in children:
        child.start()
    with place.opened() as (outbox, _, _):
        for result in results:
            outbox.append(result, KEY)
            time.sleep(chance.random() * 0.02)
        done.value = 1
    for child in children:
        child.join()
    place.deliver()
    assert snapshot(ispyb) == undisturbed
    with place.opened() as (outbox, _, _):
        assert (outbox.count_waiting(), outbox.records(RecordState.REFUSED)) == (0, [])
