"""What Prometheus may ask: what is in ledger, outbox and the last look; and a dashboard of it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from flows.looks import GroupLook, Verdict
from flows.merge import MergeRequest, run_merge
from flows.settings import SiteSettings
from flows.watch import look_around, process_ready
from tests.command_line import ssx
from tests.flows.conftest import ProcessedSite
from tests.flows.rows import rows

DASHBOARD = Path(__file__).parents[2] / "deployments" / "grafana" / "ssx.json"


def metrics(text: str) -> dict[str, float]:
    """Value by name, with the label where there is one."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_frame_counts_once_and_the_watcher_is_seen(processed: ProcessedSite):
    site = SiteSettings()
    run_merge(MergeRequest(group_id=processed.group_id, settings={"merging": {"d_min": 3.0}}))
    look_around(site)
    file = processed.folder / "ssx.prom"
    done = ssx("metrics", "--file", str(file), cwd=processed.folder, **environment(site))
    assert done.returncode == 0, done.stderr
    found = metrics(file.read_text())
    counts = processed.outcome.counts
    assert found["ssx_processings success"] == 2
    assert found["ssx_chunks success"] == 8
    assert found["ssx_chunks failed"] == 0
    assert found["ssx_frames_total"] == counts.frames_total == 80
    assert found["ssx_frame_hits"] == counts.frame_hits
    assert found["ssx_lattices_indexed"] == counts.lattices_indexed
    assert found["ssx_groups done"] == 1
    assert found["ssx_claims"] == found["ssx_outbox_records waiting"] == 0
    assert time.time() - found["ssx_watcher_last_look_timestamp_seconds"] < 60
    for expression in re.findall(r'"expr": "(.*?)"', DASHBOARD.read_text()):
        names = set(re.findall(r"ssx_\w+", expression))
        assert names
        assert names <= {name.split()[0] for name in found} | {
            "ssx_latency_last_seconds",
            "ssx_latency_mean_seconds",
        }


def environment(site: SiteSettings) -> dict[str, str]:
    assert site.ispyb_url is not None
    assert site.ledger_url is not None
    return {
        "SSX_ISPYB_URL": site.ispyb_url.get_secret_value(),
        "SSX_LEDGER_URL": site.ledger_url.get_secret_value(),
        "SSX_DATA_HOME": str(site.data_home),
    }


def test_the_latency_of_what_the_watcher_began_is_told(
    ispyb: Engine, group_id: int, site: SiteSettings, tmp_path: Path
):
    with ispyb.begin() as connection:
        now = "datetime('now', 'localtime', '-100 seconds')"
        connection.exec_driver_sql(f"UPDATE DataCollection SET endTime = {now}, startTime = {now}")  # noqa: S608
    process_ready(GroupLook(group_id, Verdict.READY, "ready"), site)
    (processing,) = rows(tmp_path / "ledger.sqlite", "SELECT counts FROM SsxProcessing")
    seconds = json.loads(processing["counts"])["seconds_since_last_frame"]
    assert 100 <= seconds < 300
    found = metrics(ssx("metrics", cwd=tmp_path, **environment(site)).stdout)
    assert found["ssx_latency_last_seconds"] == found["ssx_latency_mean_seconds"] == seconds


def test_they_are_served(processed: ProcessedSite):
    command = [sys.executable, "-m", "flows", "metrics", "--serve", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        address = re.search(r"http://\S+/metrics", line)
        assert address is not None, line
        assert metrics(httpx.get(address[0], timeout=30).text)["ssx_frames_total"] == 80
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


@pytest.mark.parametrize("words", [("--serve", "port"), ("--serve", "1", "--file", "x")])
def test_wrong_options_are_refused(words: tuple[str, ...], tmp_path: Path):
    done = ssx("metrics", *words, cwd=tmp_path)
    assert done.returncode != 0
    assert "--serve" in done.stderr
