"""A collection that goes on is processed chunk by chunk; however it ends, its state is clear."""

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from flows.databases import open_databases
from flows.job import ProcessRequest
from flows.looks import UnfinishedGroupsError, Verdict
from flows.outcome import PartialResultError, read_outcome
from flows.process import run_process
from flows.settings import SiteSettings
from flows.watch import run_watch
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.simulation.chip import SimulatedChip
from tests.flows.conftest import CHIP, enter_chip
from tests.flows.rows import rows
from tests.flows.seen import look, only_processing

N_FRAMES, N_FIRST = 80, 40


@pytest.fixture
def live(own_chip: SimulatedChip, ispyb: Engine, monkeypatch: pytest.MonkeyPatch) -> "LiveChip":
    """A chip of which the first half is there; the detector still runs."""
    monkeypatch.setenv("SSX_LIVE_WAIT_S", "3")
    chip = LiveChip(own_chip, ispyb, enter_chip(ispyb, own_chip, CHIP).group_id)
    chip.hide()
    chip.record(end=None, start="2999-01-01")
    return chip


class LiveChip:
    """Images that come when the test says so."""

    def __init__(self, chip: SimulatedChip, ispyb: Engine, group_id: int) -> None:
        self.group_id = group_id
        self._ispyb = ispyb
        self._second = chip.data_files[1]
        self._hidden = self._second.with_suffix(".not-yet")

    def hide(self) -> None:
        """Take the second half away."""
        self._second.rename(self._hidden)

    def come(self) -> None:
        """The second half is there."""
        self._hidden.rename(self._second)

    def record(self, *, end: str | None, start: str = "2026-01-01", n_images: int = N_FRAMES) -> None:
        """What the beamline says of the collection."""
        statement = "UPDATE DataCollection SET endTime = :end, startTime = :start, numberOfImages = :n"
        values = {"end": end, "start": start, "n": n_images}
        with self._ispyb.begin() as connection:
            connection.execute(text(f"{statement}, runStatus = NULL"), values)


def chunk_folders(site_folder: Path) -> dict[str, int]:
    """Time of change of each chunk's summary."""
    found = site_folder.glob("processing/group-*/collection-*/chunks/*/summary.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def test_chunks_are_processed_as_their_frames_come(live: LiveChip, site: SiteSettings, tmp_path: Path):
    seen_before_the_rest: list[int] = []

    def rest_comes() -> None:
        while len(chunk_folders(tmp_path)) < N_FIRST // 10:
            time.sleep(0.05)
        seen_before_the_rest.append(len(chunk_folders(tmp_path)))
        live.come()

    thread = threading.Thread(target=rest_comes, daemon=True)
    thread.start()
    outcome = run_process(ProcessRequest(group_id=live.group_id), SiteSettings(quiet_time_s=1))
    thread.join()
    assert seen_before_the_rest == [4]
    assert (outcome.status, outcome.chunks_done, outcome.chunks_reused) == (WorkStatus.SUCCESS, 8, 0)
    assert outcome.counts.frames_total == N_FRAMES
    assert [seen.verdict for seen in look(site)] == [Verdict.DONE]


def test_a_collection_that_pauses_is_left_and_taken_up_again_where_it_was(
    live: LiveChip, site: SiteSettings, tmp_path: Path
):
    (left,) = run_watch(site)
    assert left.verdict is Verdict.WAITING
    assert "4 of 5 chunks" in left.detail
    assert "images 41-80: still to come" in left.detail
    processing = only_processing(site)
    assert (processing.status, processing.attempts) == (WorkStatus.PARTIAL, 0)
    (program,) = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")
    assert program["processingStatus"] == "RUNNING"
    assert [seen.verdict for seen in look(site)] == [Verdict.WAITING]
    before = chunk_folders(tmp_path)
    live.come()
    live.record(end="2026-01-01", n_images=N_FRAMES)
    (done,) = run_watch(site)
    assert done.verdict is Verdict.PROCESSED
    assert done.folder is not None
    outcome = read_outcome(done.folder)
    assert (outcome.chunks_done, outcome.chunks_reused, outcome.goes_on) == (8, 4, False)
    after = chunk_folders(tmp_path)
    assert len(after) == 8
    assert before.items() <= after.items()
    assert [seen.verdict for seen in look(site)] == [Verdict.DONE]


def test_a_collection_that_stops_early_ends_with_what_is_there_and_goes_on_if_more_comes(
    live: LiveChip, site: SiteSettings
):
    live.record(end="2026-01-01")  # longer ago than the site's patience
    with pytest.raises(UnfinishedGroupsError, match="images 41-80: not in the files"):
        run_watch(site)
    (seen,) = look(site)
    assert seen.verdict is Verdict.FAILED
    assert "partial result: 4 of 5 chunks" in seen.detail
    live.come()
    (done,) = run_watch(site)
    assert done.verdict is Verdict.PROCESSED


def test_a_record_with_more_frames_than_ever_come_ends_as_a_partial_result(
    live: LiveChip, site: SiteSettings
):
    live.come()
    live.record(end="2026-01-01", n_images=95)
    with pytest.raises(PartialResultError, match="images 81-95: not in the files"):
        run_process(ProcessRequest(group_id=live.group_id), site)
    assert [seen.verdict for seen in look(site)] == [Verdict.FAILED]


def test_the_last_chunk_may_be_short(live: LiveChip, site: SiteSettings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSX_PROCESSING", '{"frames_per_chunk": 30, "calibration": {"n_frames": 40}}')
    live.record(end="2026-01-01")
    with pytest.raises(PartialResultError):
        run_process(ProcessRequest(group_id=live.group_id), SiteSettings())
    with open_databases(site) as databases:
        chunks = databases.ledger.chunks(only_processing(site).key)
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 30), (30, 40)]


def test_too_few_frames_to_learn_from_are_waited_for(
    live: LiveChip, site: SiteSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSX_PROCESSING", '{"frames_per_chunk": 10, "calibration": {"n_frames": 41}}')
    (seen,) = look(SiteSettings())
    assert seen.verdict is Verdict.WAITING
    assert "40 of 80 frames are there" in seen.detail
