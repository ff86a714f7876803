"""The ``process`` flow on a simulated chip: whole, repeated, and with a part of the images spoilt."""

import json
import socket
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.sorting import FlowRunSort
from sqlalchemy import Engine

from flows.console import print_origin
from flows.job import ProcessRequest
from flows.outcome import Outcome, PartialResultError, read_outcome
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.errors import MergeError
from ssx_processing.simulation.chip import SimulatedChip, simulate_chip
from ssx_processing.simulation.chip_settings import ChipSettings
from tests.flows.conftest import CHIP, FRAMES_PER_CHUNK, ProcessedSite, enter_chip
from tests.flows.rows import row_counts, rows

N_CHUNKS = CHIP.n_frames // FRAMES_PER_CHUNK


def test_a_group_is_processed_and_recorded_and_a_second_run_changes_nothing(processed: ProcessedSite):
    outcome = processed.outcome
    ispyb, ledger = processed.folder / "ispyb.sqlite", processed.folder / "ledger.sqlite"
    assert outcome.status is WorkStatus.SUCCESS
    assert (outcome.chunks_done, outcome.chunks_reused) == (N_CHUNKS, 0)
    assert outcome.counts.frames_total == CHIP.n_frames
    assert outcome.merge.lattices_merged > 20
    programs = rows(ispyb, "SELECT * FROM AutoProcProgram")
    assert [program["processingStatus"] for program in programs] == ["SUCCESS", "SUCCESS"]
    assert programs[0]["processingMessage"] == outcome.message
    chunks = rows(ledger, "SELECT * FROM SsxChunk ORDER BY chunkIndex")
    assert [chunk["status"] for chunk in chunks] == ["success"] * N_CHUNKS
    assert sum(json.loads(chunk["counts"])["frame_hits"] for chunk in chunks) == outcome.counts.frame_hits
    works = rows(ledger, "SELECT * FROM SsxChunkWork")
    assert [work["ssxChunkId"] for work in sorted(works, key=lambda w: w["ssxChunkId"])] == [
        chunk["ssxChunkId"] for chunk in chunks
    ]
    assert all(work["seconds"] > 0 for work in works)
    assert {work["worker"].partition(":")[0] for work in works} == {socket.gethostname()}
    members = rows(ledger, "SELECT * FROM SsxProcessingGroupMember")
    assert [(member["dataCollectionId"], member["included"]) for member in members] == [(1, 1)]

    assert rows(ispyb, "SELECT * FROM ImageQualityIndicators") == []  # unless wished for

    before = row_counts(ispyb), row_counts(ledger)
    again = run_process(ProcessRequest(group_id=processed.group_id), SiteSettings())
    assert (again.chunks_done, again.chunks_reused) == (N_CHUNKS, N_CHUNKS)
    assert again.merge.reused
    assert again.merge.key == outcome.merge.key
    assert (row_counts(ispyb), row_counts(ledger)) == before


def test_with_another_resolution_the_spots_are_those_of_before(
    processed: ProcessedSite, capsys: pytest.CaptureFixture[str]
):
    first = processed.outcome
    request = ProcessRequest(group_id=processed.group_id, settings={"integration": {"d_min": 3.0}})
    again = run_process(request, SiteSettings())
    assert (again.chunks_done, again.chunks_reused, again.chunks_from_spots) == (N_CHUNKS, 0, N_CHUNKS)
    assert again.counts == first.counts
    assert again.merge.overall.d_min > first.merge.overall.d_min
    assert (
        "8 chunks with 80 frames to do, 8 chunks from spots found before: at most" in capsys.readouterr().err
    )
    print_origin(again)
    assert (
        "8 started from spots found before (frames without a lattice were not read), the merge"
        in capsys.readouterr().out
    )
    assert read_outcome(again.folder).chunks_from_spots == N_CHUNKS


def test_the_files_of_ispybs_page_hold_the_counts(processed: ProcessedSite):
    outcome = processed.outcome
    folder = outcome.reports[0].parent
    stats = json.loads((folder / "ssx_stats.json").read_text())
    assert stats["nbHits"] == outcome.counts.frame_hits
    assert stats["nbIndexed"] == outcome.counts.frames_indexed
    assert stats["laticeType"] == "tP"
    cells = json.loads((folder / "ssx_cells.json").read_text())["unit_cells"]
    assert len(cells) == outcome.counts.lattices_indexed
    np.testing.assert_allclose(np.median(cells, axis=0), CHIP.crystals.unit_cell, rtol=0.005)


def test_what_became_of_a_job_is_read_back_as_written(processed: ProcessedSite):
    outcome = processed.outcome
    again = read_outcome(outcome.folder)
    assert (again.status, again.message, again.counts) == (outcome.status, outcome.message, outcome.counts)
    assert again.merge.key == outcome.merge.key


def test_files_are_processed_without_ispyb(
    chip: SimulatedChip, site: SiteSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SSX_ISPYB_URL")
    monkeypatch.delenv("SSX_LEDGER_URL")
    request = ProcessRequest(
        files=(chip.master,),
        unit_cell=chip.sample.unit_cell,
        space_group=chip.sample.space_group,
        folder=tmp_path / "out",
    )
    outcome = run_process(request, site)
    assert outcome.status is WorkStatus.SUCCESS
    assert outcome.program_ids == ()
    assert (tmp_path / "out" / "ssx-ledger.sqlite").is_file()
    assert (outcome.merge.folder / "merged.mtz").is_file()


def spoil_frames(data_file: Path, start: int, stop: int) -> None:
    """Overwrite the compressed bytes of frames as a broken transfer would."""
    with h5py.File(data_file, "r+") as file:
        data = file["entry/data/data"]
        assert isinstance(data, h5py.Dataset)
        for frame in range(start, stop):
            data.id.write_direct_chunk((frame, 0, 0), b"\xff" * 100)


def test_a_chunk_that_fails_leaves_an_honest_partial_result(
    own_chip: SimulatedChip,
    ispyb: Engine,
    site: SiteSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SSX_RECORD_IMAGES", "1")
    spoil_frames(own_chip.data_files[0], FRAMES_PER_CHUNK, 2 * FRAMES_PER_CHUNK)
    group_id = enter_chip(ispyb, own_chip, CHIP).group_id
    with pytest.raises(
        PartialResultError, match=rf"{N_CHUNKS - 1} of {N_CHUNKS} chunks; .*; chunk 2 "
    ) as error:
        run_process(ProcessRequest(group_id=group_id), site)
    outcome = error.value.outcome
    assert outcome.status is WorkStatus.PARTIAL
    assert outcome.counts.frames_total == CHIP.n_frames - FRAMES_PER_CHUNK
    assert outcome.merge.chunks_merged == N_CHUNKS - 1
    assert outcome.merge.missing[0].startswith("chunk 2 (images 11-20): ")

    collection, merged = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")
    assert collection["processingStatus"] == "FAILED"
    for message in (collection["processingMessage"], merged["processingMessage"]):
        assert f"{N_CHUNKS - 1} of {N_CHUNKS} chunks; " in message
        assert "; chunk 2 (images 11-20): " in message
    assert merged["processingMessage"].startswith("PARTIAL; ")
    assert "CC1/2 " in merged["processingMessage"]
    chunk = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxChunk WHERE status = 'failed'")
    assert [(c["chunkIndex"], c["attempts"]) for c in chunk] == [(1, 1)]  # bad input stays bad
    work = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxChunkWork")
    assert len(work) == N_CHUNKS  # that of the one that failed too
    assert_images_are_told(tmp_path / "ispyb.sqlite", outcome)
    processing = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    assert [p["status"] for p in processing] == ["partial"]
    assert newest_flow_run_state() == ("FAILED", "Partial")


def assert_images_are_told(database: Path, outcome: Outcome) -> None:
    """All but those of the chunk that failed, with the numbers of the tables of frames."""
    told = rows(database, "SELECT * FROM ImageQualityIndicators ORDER BY imageNumber")
    images = [*range(1, FRAMES_PER_CHUNK + 1), *range(2 * FRAMES_PER_CHUNK + 1, CHIP.n_frames + 1)]
    assert [image["imageNumber"] for image in told] == images
    assert {image["autoProcProgramId"] for image in told} == {min(outcome.program_ids)}
    tables = [pd.read_parquet(path) for path in outcome.folder.rglob("chunks/*/frames.parquet")]
    frames = pd.concat(tables).sort_values("frame")
    assert [image["spotTotal"] for image in told] == frames["n_spots"].tolist()
    signal = [image["totalIntegratedSignal"] for image in told]
    np.testing.assert_allclose(np.array(signal, float), frames["total_intensity"])


def test_data_collections_of_a_group_are_processed_apart_and_merged_together(
    chip: SimulatedChip, own_chip: SimulatedChip, ispyb: Engine, site: SiteSettings, tmp_path: Path
):
    first, second = (enter_chip(ispyb, images, CHIP) for images in (chip, own_chip))
    assert first.group_id == second.group_id
    outcome = run_process(ProcessRequest(group_id=first.group_id), site)
    assert outcome.chunks_done == 2 * N_CHUNKS
    assert outcome.counts.frames_total == 2 * CHIP.n_frames
    assert outcome.merge.lattices_merged > 40
    assert len(outcome.reports) == 2
    scaled = rows(
        tmp_path / "ispyb.sqlite",
        "SELECT dataCollectionId, endImageNumber FROM AutoProcIntegration"
        " JOIN AutoProcScaling_has_Int USING (autoProcIntegrationId) ORDER BY dataCollectionId",
    )
    expected = [first.data_collection_id, second.data_collection_id]
    assert [tuple(row.values()) for row in scaled] == [(id_, CHIP.n_frames) for id_ in expected]


def newest_flow_run_state() -> tuple[str, str]:
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    newest = max(runs, key=lambda run: str(run.created))
    assert newest.state is not None
    return newest.state.type.value, str(newest.state.name)


def test_images_that_the_record_announces_and_the_files_lack_make_a_result_partial(
    ispyb: Engine, chip: SimulatedChip, site: SiteSettings, tmp_path: Path
):
    announced = CHIP.model_copy(update={"n_frames": 100})
    group_id = enter_chip(ispyb, chip, announced).group_id
    with pytest.raises(PartialResultError, match="images 81-100: not in the files"):
        run_process(ProcessRequest(group_id=group_id), site)
    collection, _ = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")
    assert collection["processingStatus"] == "FAILED"


def test_a_group_that_cannot_be_merged_is_told_to_ispyb(ispyb: Engine, tmp_path: Path, site: SiteSettings):
    blank = ChipSettings(n_frames=12, n_files=1, hit_fraction=0.0, name="blank")
    group_id = enter_chip(ispyb, simulate_chip(tmp_path / "blank", blank), blank).group_id
    with pytest.raises(MergeError, match="no lattice in 2 chunks"):
        run_process(ProcessRequest(group_id=group_id), site)
    programs = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram ORDER BY autoProcProgramId")
    assert [p["processingStatus"] for p in programs] == ["SUCCESS", "FAILED"]
    assert "no lattice" in programs[1]["processingMessage"]


def test_images_that_cannot_be_opened_are_recorded_as_a_failure(
    own_chip: SimulatedChip, ispyb: Engine, site: SiteSettings, tmp_path: Path
):
    group_id = enter_chip(ispyb, own_chip, CHIP).group_id
    own_chip.master.write_bytes(own_chip.master.read_bytes()[:1000])
    with pytest.raises(OSError, match=own_chip.master.name):
        run_process(ProcessRequest(group_id=group_id), site)
    (program,) = rows(tmp_path / "ispyb.sqlite", "SELECT * FROM AutoProcProgram")
    assert program["processingStatus"] == "FAILED"
    assert own_chip.master.name in program["processingMessage"]
    (processing,) = rows(tmp_path / "ledger.sqlite", "SELECT * FROM SsxProcessing")
    assert processing["status"] == "failed"


def test_a_run_is_named_and_tagged_by_what_it_is_about_and_shows_its_chunks(
    group_id: int, site: SiteSettings
):
    run_process(ProcessRequest(group_id=group_id), site)
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=of_run)}
    assert run.name == f"mx1-1 group {group_id} {CHIP.name}"
    assert {"mx1", "mx1-1", "demo", "SIM"} <= set(run.tags)
    chunks = json.loads(str(artifacts["chunks"].data))
    assert [row["images"] for row in chunks][:2] == ["1-10", "11-20"]
    assert {row["status"] for row in chunks} == {"success"}
    assert artifacts["chunks"].description == f"{N_CHUNKS} chunks, all done"
    assert "cc_half" in json.loads(str(artifacts["shells"].data))
    assert str(artifacts["summary"].data).startswith(f"# group {group_id}: success")
