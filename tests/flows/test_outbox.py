"""ISPyB away during a run: the run ends well, the rows come later, none double."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from flows.databases import open_databases
from flows.job import ProcessRequest
from flows.merge import MergeRequest, run_merge
from flows.outcome import NotRecordedError
from flows.process import run_process
from flows.replay import replay
from flows.settings import SiteSettings
from flows.watch import run_watch
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.outbox_records import RecordState
from ispyb_io.protocol import UnavailableError
from ispyb_io.retrying import Patience, RetryingClient
from tests.flows.rows import row_counts, rows

PROGRAMS = "SELECT processingStatus, processingMessage FROM AutoProcProgram ORDER BY autoProcProgramId"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryingClient.__init__, "__defaults__", (Patience(attempts=2, first_pause_s=0.01),))


@pytest.fixture
def ispyb_goes(tmp_path: Path) -> Callable[[str], None]:
    """Takes the disk of the embedded ISPyB away, and brings it back."""

    def go(where: str) -> None:
        here, away = tmp_path / "ispyb.sqlite", tmp_path / "away.sqlite"
        (here if where == "away" else away).rename(away if where == "away" else here)

    return go


@pytest.fixture
def while_it_runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Acts when a run has read its group."""

    def arrange(act: Callable[[], None]) -> None:
        from flows import process

        found = process.find_job

        def find_job(*arguments: object) -> object:
            job = found(*arguments)  # type: ignore[arg-type]
            act()
            return job

        monkeypatch.setattr(process, "find_job", find_job)

    return arrange


def test_a_run_without_ispyb_ends_well_and_its_rows_come_once(
    group_id: int,
    site: SiteSettings,
    tmp_path: Path,
    ispyb_goes: Callable[[str], None],
    while_it_runs: Callable[[Callable[[], None]], None],
):
    while_it_runs(lambda: ispyb_goes("away"))
    outcome = run_process(ProcessRequest(group_id=group_id), site)
    assert outcome.status is WorkStatus.SUCCESS
    assert "2 records wait for ISPyB in the outbox (" in outcome.message
    assert outcome.program_ids == ()
    ispyb_goes("back")
    assert rows(tmp_path / "ispyb.sqlite", PROGRAMS) == []

    with open_databases(site) as databases:
        replay(databases)
    assert [row["processingStatus"] for row in rows(tmp_path / "ispyb.sqlite", PROGRAMS)] == ["SUCCESS"] * 2
    (processing,) = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    assert (processing["status"], processing["autoProcProgramIds"]) == ("success", "[1, 2]")
    before = row_counts(tmp_path / "ispyb.sqlite")
    with open_databases(site) as databases:
        replay(databases)
    assert row_counts(tmp_path / "ispyb.sqlite") == before


def test_a_group_read_before_is_processed_and_merged_again_while_ispyb_is_away(
    group_id: int, site: SiteSettings, tmp_path: Path, ispyb_goes: Callable[[str], None]
):
    ispyb_goes("away")
    with pytest.raises(UnavailableError, match=f"group {group_id} cannot be read now, and was never read"):
        run_process(ProcessRequest(group_id=group_id), site)
    ispyb_goes("back")
    first = run_process(ProcessRequest(group_id=group_id), site)
    ispyb_goes("away")
    second = run_process(ProcessRequest(group_id=group_id), site)
    assert second.merge.reused
    assert any("its record of the group is as of " in notice for notice in second.notices)
    merged = run_merge(MergeRequest(group_id=group_id, settings={"merging": {"d_min": "3.0"}}))
    assert merged.notices[-1].startswith("1 record waits for ISPyB in the outbox")
    ispyb_goes("back")
    assert [look.verdict for look in run_watch(site)] == ["done"]
    programs = rows(tmp_path / "ispyb.sqlite", PROGRAMS)
    assert {row["processingStatus"] for row in programs} == {"SUCCESS"}
    assert " to 3.00 Å" in programs[-1]["processingMessage"]
    assert first.program_ids == (1, 2)


def refuse_all(ispyb: Engine) -> None:
    with ispyb.begin() as connection:
        connection.execute(text("ALTER TABLE AutoProcProgram RENAME TO Gone"))


def refuse_merges(ispyb: Engine) -> None:
    with ispyb.begin() as connection:
        statement = (
            "CREATE TRIGGER no_merges BEFORE INSERT ON AutoProc BEGIN SELECT RAISE(ABORT, 'no merges'); END"
        )
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("act", "problem", "states"),
    [
        (refuse_all, "ISPyB takes no results: .*AutoProcProgram", {RecordState.WAITING: 2}),
        (refuse_merges, "ISPyB refused the result of merge group 1: .*no merges", {RecordState.REFUSED: 1}),
    ],
)
def test_a_run_whose_results_ispyb_refuses_is_not_green(
    group_id: int,
    site: SiteSettings,
    ispyb: Engine,
    act: Callable[[Engine], None],
    problem: str,
    states: dict[RecordState, int],
    while_it_runs: Callable[[Callable[[], None]], None],
):
    while_it_runs(lambda: act(ispyb))
    with pytest.raises(NotRecordedError, match=f"the result is there, but {problem}") as error:
        run_process(ProcessRequest(group_id=group_id), site)
    assert error.value.outcome.status is WorkStatus.SUCCESS
    with open_databases(site) as databases:
        outbox = databases.require_outbox()
        assert {state: len(outbox.records(state)) for state in states} == states
