"""From simulated images to merged intensities: against the truth, and however the frames were cut."""

from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest

from ssx_processing.models import ChunkSummary, MergeSummary
from ssx_processing.pipeline.merge import merge_chunks
from ssx_processing.pipeline.plan import make_plan
from ssx_processing.pipeline.process_chunk import process_chunk
from ssx_processing.settings import MergingSettings
from tests.unit.pipeline.conftest import ProcessedChip, chunk_jobs

HKL = ["H", "K", "L"]


def merge(processed: ProcessedChip, chunks: list[ChunkSummary], folder: Path) -> MergeSummary:
    settings = processed.settings.model_copy(update={"merging": MergingSettings(d_min=2.5)})
    return merge_chunks(
        [chunk.folder for chunk in chunks],
        settings,
        folder,
        chunks_expected=len(chunks),
        wavelength=processed.plan.wavelength,
    )


@pytest.fixture(scope="module")
def merged(processed_chip: ProcessedChip) -> MergeSummary:
    return merge(processed_chip, processed_chip.chunks, processed_chip.folder)


@pytest.fixture(scope="module")
def cc_to_truth(merged: MergeSummary, processed_chip: ProcessedChip) -> float:
    mtz = gemmi.read_mtz_file(str(merged.folder / "merged.mtz"))
    ours = pd.DataFrame(np.array(mtz), columns=mtz.column_labels())
    truth = processed_chip.truth.reflections
    both = ours.merge(pd.DataFrame(truth.hkl, columns=HKL).assign(truth=truth.intensity), on=HKL)
    assert len(both) == len(ours) == merged.overall.n_reflections
    return float(np.corrcoef(both["IMEAN"], both["truth"])[0, 1])


def test_merged_intensities_correlate_with_the_truth(cc_to_truth: float):
    assert cc_to_truth > 0.93


def test_cc_star_estimates_the_correlation_with_the_truth(merged: MergeSummary, cc_to_truth: float):
    assert merged.overall.cc_star == pytest.approx(cc_to_truth, abs=0.06)
    assert merged.overall.completeness > 0.85


def test_frames_cut_into_other_chunks_give_the_same_merged_result(
    merged: MergeSummary, processed_chip: ProcessedChip, tmp_path: Path
):
    settings = processed_chip.settings.model_copy(update={"frames_per_chunk": 37})
    plan = make_plan([processed_chip.chip.master], settings)
    jobs = chunk_jobs(plan, settings, processed_chip.calibration, tmp_path)
    again = merge(processed_chip, [process_chunk(job) for job in jobs], tmp_path)
    assert (again.counts, again.lattices_merged) == (merged.counts, merged.lattices_merged)
    first, second = (pd.read_parquet(m.folder / "reflections.parquet") for m in (merged, again))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
