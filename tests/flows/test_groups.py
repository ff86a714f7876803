"""Two chips in two groups of ISPyB, processed apart and merged as a group that somebody made."""

import json
import os
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from flows.cli import app
from flows.job import ProcessRequest
from flows.looks import Verdict
from flows.merge import MergeRequest, run_merge
from flows.outcome import Outcome
from flows.process import run_process
from flows.settings import SiteSettings
from flows.watch import run_watch
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import SettingsError
from ssx_processing.simulation.chip import SimulatedChip
from tests import command_line
from tests.flows.conftest import CHIP, enter_chip
from tests.flows.rows import rows

SECOND = CHIP.model_copy(update={"name": "second"})
MERGED = "SELECT * FROM AutoProcProgram WHERE processingEnvironment LIKE '% merge:both chips'"


@pytest.fixture
def two_groups(
    chip: SimulatedChip, own_chip: SimulatedChip, ispyb: Engine, site: SiteSettings
) -> list[Outcome]:
    """Two samples, each processed in its own group of ISPyB."""
    ids = [enter_chip(ispyb, chip, CHIP), enter_chip(ispyb, own_chip, SECOND)]
    return [run_process(ProcessRequest(group_id=entered.group_id), site) for entered in ids]


def ssx(*words: str) -> str:
    """What a command prints; raises what stops it."""
    done = CliRunner().invoke(app, words, catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def merged(name: str = "both chips", **settings: str) -> Outcome:
    return run_merge(MergeRequest(group_name=name, settings={"merging": settings} if settings else {}))


def test_two_chips_are_merged_as_a_group_and_again_without_one(two_groups: list[Outcome], tmp_path: Path):
    pages = [outcome.reports[0].read_bytes() for outcome in two_groups]
    assert "merge it: ssx merge 'both chips'" in ssx(
        "groups", "create", "both chips", "--sample", "1", "--group", "2"
    )
    both = merged()
    assert both.status is WorkStatus.SUCCESS
    assert both.merge.lattices_merged > max(outcome.merge.lattices_merged for outcome in two_groups)
    assert [page.is_file() for page in both.reports] == [True, True]
    assert pages == [outcome.reports[0].read_bytes() for outcome in two_groups]
    (program,) = rows(tmp_path / "ispyb.sqlite", MERGED)
    assert linked(tmp_path, program["autoProcProgramId"]) == {1: True, 2: True}

    ssx("groups", "exclude", "both chips", "--collection", "2", "--reason", "dried out")
    one = merged()
    assert one.merge.lattices_merged == two_groups[0].merge.lattices_merged
    earlier, later = rows(tmp_path / "ispyb.sqlite", MERGED)
    assert f"superseded by program {later['autoProcProgramId']}" in earlier["processingMessage"]
    assert linked(tmp_path, later["autoProcProgramId"]) == {1: True}
    merged()
    assert len(rows(tmp_path / "ispyb.sqlite", MERGED)) == 2
    assert_members_in_file(one)
    assert "dried out" in ssx("groups", "show", "both chips")
    assert ssx("groups", "history", "both chips").count("included") == 2
    settings = {name: value for name, value in os.environ.items() if name.startswith("SSX_")}
    for words, shown in ((("status",), "both chips"), (("show", "both chips"), str(one.merge.folder))):
        done = command_line.ssx(*words, cwd=tmp_path, COLUMNS="200", **settings)
        assert shown in done.stdout, done.stderr


def linked(folder: Path, program_id: int) -> dict[int, bool]:
    """Data collections of a program, and whether the merged numbers are shown there."""
    found = rows(
        folder / "ispyb.sqlite",
        "SELECT autoProcProgramId, dataCollectionId, autoProcScalingId FROM AutoProcIntegration "
        "JOIN AutoProcScaling_has_Int USING (autoProcIntegrationId)",
    )
    found = [row for row in found if row["autoProcProgramId"] == program_id]
    return {row["dataCollectionId"]: row["autoProcScalingId"] is not None for row in found}


def assert_members_in_file(outcome: Outcome) -> None:
    """The group's file says who is in, with how much, and who is not and why."""
    content = json.loads((outcome.merge.folder / "group.json").read_text())
    first, second = content["members"]
    assert (content["name"], content["kind"], content["proposal"]) == ("both chips", "chosen", "mx1")
    assert (first["included"], first["sample"], first["frames_total"]) == (True, "chip", CHIP.n_frames)
    assert first["lattices_merged"] == outcome.merge.lattices_merged
    assert (second["merged"], second["reason"], second["sample"]) == (False, "dried out", "second")


def test_an_excluded_data_collection_is_not_processed_any_more(
    group_id: int, site: SiteSettings, tmp_path: Path
):
    run_watch(site)
    ssx("groups", "exclude", f"group {group_id}", "--collection", "1", "--reason", "wrong sample")
    with pytest.raises(SettingsError, match=r"are excluded .1: wrong sample"):
        run_process(ProcessRequest(group_id=group_id), site)
    with pytest.raises(SettingsError, match="all its data collections are excluded"):
        run_merge(MergeRequest(group_id=group_id))
    (look,) = run_watch(site)
    assert look.verdict is Verdict.DONE
    programs = rows(tmp_path / "ispyb.sqlite", "SELECT processingStatus FROM AutoProcProgram")
    assert [program["processingStatus"] for program in programs] == ["SUCCESS", "SUCCESS"]


def test_what_is_found_later_joins_a_group_made_by_a_rule(
    chip: SimulatedChip, own_chip: SimulatedChip, ispyb: Engine, site: SiteSettings
):
    enter_chip(ispyb, chip, CHIP)
    run_process(ProcessRequest(group_id=1), site)
    ssx("groups", "create", "all", "--rule", "same-protein", "--of", "1")
    assert merged("all").chunks_done == CHIP.n_frames // 10
    enter_chip(ispyb, own_chip, SECOND)
    with pytest.raises(
        SettingsError, match=r"data collection 2: group 2 has no result.*ssx process --group 2"
    ):
        merged("all")
    assert "same-protein as group 1" in ssx("groups", "history", "all")
    run_process(ProcessRequest(group_id=2, settings={"sample": {}}, space_group="P422"), site)
    with pytest.raises(
        SettingsError, match=r"data collection 2 was processed as P422 .*ssx process --group 2"
    ):
        merged("all")
