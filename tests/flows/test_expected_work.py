"""What a job will take is said before it begins; a large one needs somebody's yes."""

import threading
import time

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun

from flows import confirmation
from flows.expected_work import ConfirmationNeededError
from flows.job import ProcessRequest
from flows.looks import Verdict
from flows.process import run_process
from flows.settings import SiteSettings
from flows.watch import run_watch
from ispyb_io.ledger_records import WorkStatus
from tests.flows.seen import only_processing


@pytest.fixture
def careful(site: SiteSettings, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    """A site that begins nothing by itself."""
    monkeypatch.setenv("SSX_CONFIRM_CPU_HOURS", "1e-9")
    return SiteSettings()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a terminal nor a Prefect server that lives on."""
    monkeypatch.setattr(confirmation, "server_is_configured", lambda: False)


def paused_run(name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        for _ in range(600):
            of_name, paused = FlowRunFilterName(like_=name), FlowRunFilterStateName(any_=["Paused"])
            where = FlowRunFilter(name=of_name, state=FlowRunFilterState(name=paused))
            found = client.read_flow_runs(flow_run_filter=where)
            if found:
                return found[0]
            time.sleep(0.1)
    raise AssertionError("no run is paused")


def test_a_job_above_the_limit_waits_until_somebody_says_yes(
    group_id: int, careful: SiteSettings, nobody: None
):
    (seen,) = run_watch(careful)
    assert seen.verdict is Verdict.WAITING
    assert "8 chunks with 80 frames to do:" in seen.detail
    assert "CPU seconds" in seen.detail
    assert "the site begins up to 1e-09 CPU hours by itself (SSX_CONFIRM_CPU_HOURS)" in seen.detail
    assert seen.detail.endswith("--yes")
    with pytest.raises(ConfirmationNeededError):
        run_process(ProcessRequest(group_id=group_id), careful)
    outcome = run_process(ProcessRequest(group_id=group_id, confirmed=True), careful)
    assert outcome.status is WorkStatus.SUCCESS


@pytest.mark.parametrize("yes", [True, False])
def test_a_run_waits_in_the_prefect_ui(group_id: int, careful: SiteSettings, yes: bool):
    found: list[FlowRun] = []

    def answer() -> None:
        found.append(paused_run(f"group {group_id}"))
        with get_client(sync_client=True) as client:
            keyset = found[0].state.state_details.run_input_keyset if found[0].state else None
            assert keyset is not None
            client.resume_flow_run(found[0].id, run_input={"begin": yes})

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        if yes:
            assert run_process(ProcessRequest(group_id=group_id), careful).status is WorkStatus.SUCCESS
        else:
            with pytest.raises(ConfirmationNeededError, match="the answer was no"):
                run_process(ProcessRequest(group_id=group_id), careful)
    finally:
        thread.join()
    assert only_processing(careful).status is (WorkStatus.SUCCESS if yes else WorkStatus.FAILED)
