"""A real CrystFEL stream (5-HT2B, 70 XFEL frames) is merged by our merging, from the command's request on."""

from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest

from flows.job import ProcessRequest
from flows.job_of_request import job_of_files
from flows.merge import MergeRequest, run_merge
from flows.outcome import Outcome, PartialResultError
from flows.process import run_process
from flows.settings import SiteSettings
from ispyb_io.ledger_records import WorkStatus
from ssx_processing.formats.run_folder import RunFolder

MERGING = {"merging": {"d_min": 5.0, "n_shells": 5}}


@pytest.fixture
def stream(real_data: Path) -> Path:
    return real_data / "5ht2b_lcls_crystfel_stream" / "raw" / "crystfel_5HT2B_test.stream"


@pytest.fixture
def site(site: SiteSettings, monkeypatch: pytest.MonkeyPatch) -> SiteSettings:
    """A site without ISPyB, as for files."""
    monkeypatch.delenv("SSX_ISPYB_URL")
    return SiteSettings()


def processed(stream: Path, folder: Path, site: SiteSettings) -> Outcome:
    request = ProcessRequest(files=(stream,), space_group="C 2 2 21", folder=folder, settings=MERGING)
    return run_process(request, site)


def tables(folder: Path, name: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(f / f"{name}.parquet") for f in RunFolder(folder).chunks.iterdir()])


def test_all_crystals_and_reflections_of_the_stream_are_taken_and_may_be_merged_again(
    stream: Path, site: SiteSettings, tmp_path: Path
):
    outcome = processed(stream, tmp_path / "out", site)
    assert outcome.status is WorkStatus.SUCCESS
    assert (outcome.counts.frames_total, outcome.counts.lattices_indexed) == (70, 32)
    assert any("target cell of the stream" in note for note in outcome.merge.warnings)
    assert len(tables(tmp_path / "out", "spots")) == 2172
    observations = tables(tmp_path / "out", "observations")
    assert len(observations) == 7966
    assert outcome.merge.lattices_merged >= 28
    assert outcome.merge.lattices_merged + sum(outcome.merge.lattices_excluded.values()) == 32
    assert correlation_with_plain_means(outcome.merge.folder, observations) > 0.6
    assert "CrystFEL" in outcome.reports[0].read_text()

    again = run_merge(MergeRequest(folder=tmp_path / "out", settings={"merging": {"d_min": 8.0}}))
    assert again.chunks_reused == again.chunks_done == 7
    assert again.merge.overall.n_observations < outcome.merge.overall.n_observations


def test_a_stream_keeps_its_own_geometry_and_its_counts_per_photon(
    stream: Path, site: SiteSettings, tmp_path: Path
):
    of_site = site.model_copy(update={"geometry_file": tmp_path / "site.geom"})
    job = job_of_files(ProcessRequest(files=(stream,), folder=tmp_path / "out"), of_site)
    assert job.data_sets[0].geometry is None
    assert job.settings.spots.gain == pytest.approx(0.00105 * 9511, rel=0.01)  # adu_per_eV


def correlation_with_plain_means(merged_folder: Path, observations: pd.DataFrame) -> float:
    """With 1.3 observations a reflection, what is left between them are the scales of the crystals."""
    group = gemmi.SpaceGroup("C 2 2 21")
    asu, operations = gemmi.ReciprocalAsu(group), group.operations()
    names = ["H", "K", "L"]
    unique = [asu.to_asu(hkl, operations)[0] for hkl in observations[["h", "k", "l"]].to_numpy().tolist()]
    plain = pd.DataFrame(unique, columns=names).assign(plain=observations["intensity"].to_numpy())
    means = plain.groupby(names)["plain"].mean().reset_index()
    mtz = gemmi.read_mtz_file(str(merged_folder / "merged.mtz"))
    ours = pd.DataFrame(np.array(mtz), columns=mtz.column_labels())
    both = ours.merge(means, on=names)
    assert len(both) == len(ours)
    return float(np.corrcoef(both["IMEAN"], both["plain"])[0, 1])


def test_a_cut_stream_is_merged_without_its_last_frame(stream: Path, site: SiteSettings, tmp_path: Path):
    cut = tmp_path / "cut.stream"
    cut.write_bytes(stream.read_bytes()[:-100])
    outcome = processed(cut, tmp_path / "out", site)
    assert (outcome.counts.frames_total, outcome.counts.frames_unreadable) == (70, 1)
    assert "1 frames unreadable" in outcome.message


def test_a_chunk_of_which_nothing_is_whole_makes_the_result_partial(
    stream: Path, site: SiteSettings, tmp_path: Path
):
    text = stream.read_text()
    parts = text.split("----- End chunk -----\n")
    spoilt = tmp_path / "spoilt.stream"
    spoilt.write_text("----- End chunk -----\n".join(parts[:60]) + "".join(parts[60:]))
    with pytest.raises(PartialResultError, match=r"chunk 7 \(images 61-70\): .*not one is whole"):
        processed(spoilt, tmp_path / "out", site)
