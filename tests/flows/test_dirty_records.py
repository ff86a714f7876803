"""Groups as beamlines really write them: the watcher finds them, and says what it cannot take up."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from flows.databases import open_databases
from flows.image_paths import with_image_paths
from flows.job import ProcessRequest
from flows.job_of_request import job_of_group
from flows.looks import GroupLook, Verdict, look_at_groups
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.simulation.chip import SimulatedChip
from tests.flows.conftest import CHIP, enter_chip

NO_PATHS = "UPDATE DataCollection SET imageDirectory = NULL, fileTemplate = NULL, imagePrefix = 'chip'"


def look(site: SiteSettings) -> GroupLook:
    with open_databases(site) as databases:
        (seen,) = look_at_groups(site, databases)
        return seen


def change(ispyb: Engine, statement: str) -> None:
    with ispyb.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE DataCollectionGroup SET experimentType = 'SSX-CHIP'",
        "UPDATE DataCollectionGroup SET experimentType = 'Serial Fixed'",
        "UPDATE DataCollection SET numberOfImages = NULL",
        "UPDATE DataCollection SET numberOfImages = 60",
        "UPDATE DataCollectionGroup SET endTime = NULL, startTime = NULL",
        "UPDATE DataCollectionGroup SET blSampleId = NULL",
        "UPDATE BLSample SET crystalId = NULL",
        "UPDATE Crystal SET cell_a = NULL, spaceGroup = ''",
    ],
)
def test_a_group_is_ready_whatever_its_record_lacks(
    group_id: int, ispyb: Engine, site: SiteSettings, statement: str
):
    change(ispyb, statement)
    assert (look(site).verdict, look(site).group_id) == (Verdict.READY, group_id)


def test_images_without_a_path_are_found_by_the_sites_template(
    group_id: int, ispyb: Engine, chip: SimulatedChip, site: SiteSettings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SSX_PROCESSING_FOLDER")
    change(ispyb, NO_PATHS)
    failed = look(SiteSettings())
    assert failed.verdict is Verdict.FAILED
    assert "say where they lie (SSX_IMAGE_PATH_TEMPLATES)" in failed.detail
    template = chip.master.parent / "{prefix}*_master.h5"
    monkeypatch.setenv("SSX_IMAGE_PATH_TEMPLATES", f'["/nowhere/{{proposal}}/a.h5", "{template}"]')
    ready = look(SiteSettings())
    assert (ready.group_id, ready.verdict) == (group_id, Verdict.READY)
    assert ready.folder == (chip.master.parent / "../processing/ssx/group-1").resolve()


def test_a_data_collection_that_joins_a_finished_group_makes_it_ready_again(
    group_id: int, ispyb: Engine, chip: SimulatedChip, site: SiteSettings, tmp_path: Path
):
    with open_databases(site) as databases:
        group = databases.group(group_id, site)
        job = job_of_group(ProcessRequest(group_id=group_id), with_image_paths(group, site), site)
        databases.ledger.begin(
            job.key, folder=job.folder, settings={}, versions={}, data_collection_group_id=group_id
        )
        databases.ledger.finish(job.key, WorkStatus.SUCCESS, message="8 of 8 chunks")
    assert look(site).verdict is Verdict.DONE
    # a second run into the same group, of files in another place
    moved = tmp_path / "again"
    moved.symlink_to(chip.master.parent)
    change(ispyb, f"UPDATE DataCollection SET imageDirectory = '{moved}'")  # noqa: S608
    assert enter_chip(ispyb, chip, CHIP).group_id == group_id
    assert look(site).verdict is Verdict.READY
