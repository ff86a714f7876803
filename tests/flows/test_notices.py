"""People whom the site names hear of results once, in plain words; and nothing depends on it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from flows.job import ProcessRequest
from flows.notices import failure_notices, notices_of, send
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import ImageReadError, SettingsError
from ssx_processing.models import FrameCounts
from tests.command_line import ssx
from tests.flows.conftest import ProcessedSite


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """Address of a server, and what was posted there."""
    heard: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/ssx", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_result_is_told_once(processed: ProcessedSite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSX_FILE_URL", "https://files.example.org{path}")
    with webhook() as (address, heard):
        monkeypatch.setenv("SSX_NOTIFY_URLS", address)
        for _ in range(2):
            run_process(ProcessRequest(group_id=processed.group_id), SiteSettings())
    (line,) = heard
    assert line.startswith(
        f"mx1-1 group {processed.group_id} chip: finished, 8 of 8 chunks; 40 hits (50.0 %)"
    )
    assert "CC1/2 0.9" in line
    assert line.endswith(f"https://files.example.org{processed.outcome.reports[0]}")


def test_nothing_depends_on_whether_people_hear(
    processed: ProcessedSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with webhook(status=500) as (address, heard):
        monkeypatch.setenv("SSX_NOTIFY_URLS", address)
        outcome = run_process(ProcessRequest(group_id=processed.group_id), SiteSettings())
    assert outcome.status is WorkStatus.SUCCESS
    assert len(heard) == 1
    assert "not everybody was told: 1 of 1 lines could not be sent" in caplog.text


def test_what_is_worth_a_word(processed: ProcessedSite, monkeypatch: pytest.MonkeyPatch):
    site, outcome = SiteSettings(), processed.outcome
    assert [notice.occasion for notice in notices_of(outcome, "chip", site)] == ["finished"]
    few = replace(outcome, counts=FrameCounts(frames_total=1000, frame_hits=3), status=WorkStatus.PARTIAL)
    partial, low = notices_of(few, "chip", site)
    assert (partial.occasion, low.occasion) == ("partial", "low hit rate")
    assert low.text.startswith("chip: low hit rate, 3 hits in 1000 frames (0.30%)")
    never = "laser never toggles: it is on in all 80 frames, there is no dark to compare with"
    dark = replace(outcome, notices=("another", never))
    assert [n.text.split("; file")[0] for n in notices_of(dark, "chip", site)][1:] == [f"chip: {never}"]
    assert notices_of(replace(outcome, goes_on=True), "chip", site) == []
    (failed,) = failure_notices(ImageReadError("a.h5: truncated"), "chip")
    assert failed.text == "chip: failed, a.h5: truncated"


def test_the_command_sends_a_test_and_shows_no_address(tmp_path: Path):
    with webhook() as (address, heard):
        done = ssx("notify", cwd=tmp_path, SSX_NOTIFY_URLS=address)
    assert (done.returncode, done.stdout) == (0, "sent\n"), done.stderr
    assert len(heard) == 1
    for wrong, said in (("nonsense://user:secret@host", "Apprise understands"), (None, "not set")):
        given = {} if wrong is None else {"SSX_NOTIFY_URLS": wrong}
        done = ssx("notify", cwd=tmp_path, **given)
        assert done.returncode == 1
        assert said in done.stderr
        assert "secret" not in done.stderr + done.stdout


def test_a_notification_block_of_prefect_is_an_address(
    site: SiteSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for status, failed in ((200, 0), (500, 1)):
        with webhook(status) as (address, heard):
            url = address.replace("json://", "http://")
            block = CustomWebhookNotificationBlock(
                name="ssx",
                url=url,
                json_data={"message": "{{subject}}: {{body}}"},
                headers=None,
                cookies=None,
                allow_private_urls=True,
            )
            block.save("beamline", overwrite=True)  # pyright: ignore[reportUnusedCoroutine]
            monkeypatch.setenv("SSX_NOTIFY_URLS", f"{address} prefect-block:custom-webhook/beamline")
            assert send(["chip 7: finished"], SiteSettings()) == failed
            assert heard == ["chip 7: finished", "SSX processing: chip 7: finished"]
    assert "a block of Prefect did not send: HTTPStatusError" in caplog.text
    monkeypatch.setenv("SSX_NOTIFY_URLS", "prefect-block:slack-webhook/nobody")
    with pytest.raises(SettingsError, match="Prefect has no block 'slack-webhook/nobody'"):
        send(["chip 7: finished"], SiteSettings())
