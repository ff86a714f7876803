"""A group that is known only through py-ispyb is processed; ISPyB is told once, and the rest is said."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from flows.job import ProcessRequest
from flows.looks import Verdict
from flows.process import run_process
from flows.settings import SiteSettings
from flows.watch import run_watch
from ispyb_io.ledger_records import WorkStatus
from tests.flows.conftest import CHIP
from tests.flows.rows import rows
from tests.unit.ispyb_io.rest.served import Pyispyb
from tests.unit.ispyb_io.rest.server import serving


@pytest.fixture
def rest_site(site: SiteSettings, ispyb: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteSettings]:
    """The site, with py-ispyb in the place of its database."""
    with serving(Pyispyb(ispyb)) as url:
        monkeypatch.setenv("SSX_ISPYB_URL", url.replace("://", "://abcd:p%40ss@"))
        yield SiteSettings()


def test_a_group_is_found_processed_and_told_once(
    rest_site: SiteSettings, group_id: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        (look,) = run_watch(rest_site)
    assert look.verdict is Verdict.PROCESSED, look.detail
    (program,) = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")
    assert program["processingStatus"] == "SUCCESS"
    attached = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgramAttachment")
    assert [row["fileName"] for row in attached] == ["ssx_stats.json", "ssx_cells.json"]
    stats = json.loads(Path(attached[0]["filePath"], "ssx_stats.json").read_text())
    assert 0 < stats["nbIndexed"] <= stats["nbHits"] <= CHIP.n_frames
    assert caplog.text.count("py-ispyb is not told merged results") == 1

    again = run_process(ProcessRequest(group_id=group_id), rest_site)
    assert again.status is WorkStatus.SUCCESS
    assert len(rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")) == 1
    (look,) = run_watch(rest_site)
    assert look.verdict is Verdict.DONE
