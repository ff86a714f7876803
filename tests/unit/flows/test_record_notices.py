"""What is carried from ISPyB's records to a result, and what is said of records that are wrong."""

import datetime
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from flows.arrival import Arrival
from flows.conclusion import sample_facts
from flows.data_set_run import DataSetRun
from flows.event_chains import apply_events
from flows.job import DataSet, Job
from ispyb_io.ledger_records import GroupKind, ProcessingGroup
from ispyb_io.records import (
    DataCollection,
    DataCollectionGroup,
    Event,
    EventChain,
    Sample,
    SampleComponent,
)
from ssx_processing.errors import SettingsError
from ssx_processing.formats.run_folder import RunFolder
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
    return DataSetRun(DataSet("data collection 3", plan.paths, HERE, collection), plan, [job], n_frames, 0)


def test_files_that_come_later_belong_to_the_plan_and_to_every_chunk():
    run = run_of(None, 80)
    files = (HERE / "a.h5", HERE / "b.h5")
    run.grow(Arrival(files, there=80, expected=80, lacking="", is_over=False))
    assert run.plan.paths == files
    assert [job.paths for job in run.chunk_jobs] == [files]


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


def with_chain(
    run: DataSetRun, repetition: float, by: str | None, folder: Path, id_: int = 3
) -> tuple[Job, DataSetRun]:
    """The run and its job, with a chain of so many shots in the record."""
    shots = Event(event_type="XrayDetection", duration=0.01, period=0.01, repetition=repetition)
    pump = Event(event_type="LaserExcitation", offset=-0.001)
    chain = EventChain(name="wells", events=(shots, pump))
    collection = DataCollection(data_collection_id=id_, event_chains=(chain,))
    data_set = replace(run.data_set, collection=collection, folder=folder)
    settings = RequestedSettings.model_validate({"merging": {"subset_by": by}})
    group = DataCollectionGroup(
        group_id=7,
        session_id=1,
        proposal="mx1234",
        experiment_type="SSX-Chip",
        data_collections=(collection,),
    )
    return Job("group 7", (data_set,), settings, folder, group, folder), replace(run, data_set=data_set)


def test_events_are_put_where_the_merge_finds_them_and_a_laser_that_never_toggles_is_said(tmp_path: Path):
    job, run = with_chain(run_of(80, 80), 2, "laser", tmp_path)
    assert apply_events(job, [run]) == (
        "laser never toggles: it is on in all 80 frames, there is no dark to compare with",
    )
    assert RunFolder(tmp_path).events.is_file()


def test_members_of_a_chosen_group_have_the_events_of_their_own_records(tmp_path: Path):
    chosen = ProcessingGroup(
        group_id=1,
        data_collection_group_id=None,
        proposal="mx1234",
        name="both",
        kind=GroupKind.CHOSEN,
        created_by="me",
        created_at=datetime.datetime(2026, 11, 21),
    )
    apart = [with_chain(run_of(80, 80), n, "laser", tmp_path / str(n), id_=n) for n in (2, 4)]
    runs = [run for _, run in apart]
    groups = [job.group for job, _ in apart if job.group is not None]
    data_sets = tuple(run.data_set for run in runs)
    both = replace(
        apart[0][0], group=None, chosen=chosen, collected=tuple(reversed(groups)), data_sets=data_sets
    )
    apply_events(both, runs)
    tables = [pd.read_parquet(RunFolder(run.data_set.folder).events) for run in runs]
    assert [table["dose_index"].nunique() for table in tables] == [2, 4]


def test_refused_chains_are_a_notice_unless_the_subsets_need_them(tmp_path: Path):
    RunFolder(tmp_path).events.touch()  # of an earlier record
    job, run = with_chain(run_of(80, 80), 7, None, tmp_path)
    (notice,) = apply_events(job, [run])
    assert notice.startswith("data collection 3: event chain 'wells': expected a multiple of 7 frames")
    assert not RunFolder(tmp_path).events.exists()
    job, run = with_chain(run_of(80, 80), 7, "delay_s", tmp_path)
    with pytest.raises(SettingsError, match=r"subset_by 'delay_s' needs the events.*multiple of 7 frames"):
        apply_events(job, [run])


def test_images_without_ispyb_have_no_events(tmp_path: Path):
    job, run = with_chain(run_of(80, 80), 2, "laser", tmp_path)
    with pytest.raises(SettingsError, match="images without ISPyB have no event chains"):
        apply_events(replace(job, group=None), [run])


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
        "carrier": "LCP",
        "components": "buffer acetate, pH 4.6",
    }
