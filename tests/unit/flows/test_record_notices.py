"""What is carried from ISPyB's records to a result, and what is said of records that are wrong."""

from pathlib import Path

import pytest

from flows.conclusion import sample_facts
from flows.data_set_run import DataSetRun
from flows.job import DataSet, Job
from ispyb_io.records import DataCollection, DataCollectionGroup, Sample, SampleComponent
from ssx_processing.models import FrameRange, Plan
from ssx_processing.pipeline.chunk_job import ChunkJob
from ssx_processing.settings import ProcessingSettings, RequestedSettings, SampleSettings

HERE = Path("/results")


def run_of(n_images: int | None, n_frames: int) -> DataSetRun:
    sample = SampleSettings(unit_cell=(79, 79, 38, 90, 90, 90), space_group="P43212")
    frames = FrameRange(0, n_frames)
    plan = Plan((HERE / "a.h5",), n_frames, (frames,), "identity", 1.0)
    job = ChunkJob(plan.paths, "identity", frames, ProcessingSettings(sample=sample), HERE, HERE)
    collection = DataCollection(data_collection_id=3, n_images=n_images)
    return DataSetRun(DataSet("data collection 3", plan.paths, HERE, collection), plan, [job], 0)


@pytest.mark.parametrize(
    ("n_images", "missing", "notices"),
    [
        (80, (), ()),
        (None, (), ()),
        (0, (), ()),
        (60, (), ("numberOfImages in ISPyB is 60, the files have 80 frames: all are processed",)),
        (90, ("images 81-90: not in the files",), ()),
    ],
)
def test_a_wrong_number_of_images_is_said(
    n_images: int | None, missing: tuple[str, ...], notices: tuple[str, ...]
):
    run = run_of(n_images, 80)
    assert (run.missing, run.record_notices) == (missing, notices)
    assert all(line in run.message for line in (*missing, *notices))


def test_ligands_and_other_components_are_facts_of_a_result():
    components = (
        SampleComponent(name="NAG", component_type="Ligand", abundance=5, unit="mM"),
        SampleComponent(name="LCP", component_type="JetMaterial"),
        SampleComponent(name="acetate", component_type="Buffer", ph=4.6),
    )
    sample = Sample(sample_id=1, name="chip 7", protein_acronym="lyso", components=components)
    group = DataCollectionGroup(group_id=7, session_id=1, proposal="mx1234", sample=sample)
    job = Job("group 7", (), RequestedSettings(), HERE, group, HERE)
    assert sample_facts(job) == {
        "proposal": "mx1234",
        "data collection group": "7",
        "sample": "chip 7",
        "protein": "lyso",
        "ligands": "ligand NAG 5 mM",
        "components": "jet material LCP; buffer acetate, pH 4.6",
    }
