"""The data sets of a job: planned, calibrated, weighed, then processed one after the other."""

from collections.abc import Sequence

from flows.chunk_loop import process_chunks
from flows.data_set_run import DataSetRun, jobs_of_plan, write_plan
from flows.display import ProgressDisplay
from flows.engine import chunk_engine
from flows.event_chains import CollectionEvents, check_events
from flows.expected_work import Ask, confirm, expected_work
from flows.job import Job
from flows.planning import began_with, begun_before
from flows.records import JobRecords
from flows.run_names import name_run
from flows.settings import SiteSettings
from flows.tasks import calibrate_task, plan_task, sample_task
from ssx_processing.errors import SettingsError
from ssx_processing.formats.chunk_folder import remove_unfinished
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import Plan
from ssx_processing.pipeline.chunk_size import chosen_size
from ssx_processing.pipeline.plan import with_chunks
from ssx_processing.settings import SampleSettings


def process_data_sets(
    job: Job, site: SiteSettings, records: JobRecords, ask: Ask | None = None
) -> list[DataSetRun]:
    """Process one data set after the other, the chunks of each in parallel.

    Parameters
    ----------
    ask
        Asks somebody whether to go on where the site wants that; None: nobody is there.
    """
    plans = [plan_task(data_set, job.settings, site) for data_set in job.data_sets]
    if any(plan.frames_there is not None for plan in plans):
        name_run(job, is_live=True)
    records.frames_there = sum(plan.frames_to_learn_from for plan in plans)
    events = check_events(job, [plan.frames_total for plan in plans])
    with chunk_engine(site, job.folder) as executor, ProgressDisplay(plans) as display:
        runs = calibrated_runs(job, plans, events, display)
        work = expected_work(runs, site)
        display.note(work.words)
        confirm(work, site, None if ask is None else display.paused(ask), job.name)
        for number, run in enumerate(runs):
            # only now: how many chunks a collection that goes on has is known when it is left
            run.first_chunk = sum(len(before.chunk_jobs) for before in runs[:number])
            write_plan(run)
            display.say(run.data_set.name)
            process_chunks(run, site, executor, records, display)
    for data_set in job.data_sets:
        folder = RunFolder(data_set.folder)
        remove_unfinished(folder.cells, folder.calibrations, folder.chunks)
    return runs


def calibrated_runs(
    job: Job, plans: Sequence[Plan], events: Sequence[CollectionEvents], display: ProgressDisplay
) -> list[DataSetRun]:
    """Each data set with what was learnt from some of its frames, cut into chunks."""
    display.say("looking for the cell")
    settings = job.settings.with_sample(known_sample(job, plans))
    for line in settings.sample.assumed:
        display.note(line)
    runs: list[DataSetRun] = []
    for data_set, plan in zip(job.data_sets, plans, strict=True):
        display.say(f"calibrating {data_set.name}")
        calibration = calibrate_task(plan, settings, data_set.folder)
        for line in calibration.cell_notices:
            display.note(line)
        trial = calibration.trial
        size = begun_before(data_set, plan).get("frames_per_chunk") or chosen_size(
            plan, settings, trial and trial.cpu_seconds, events_period(events)
        )
        cut = with_chunks(plan, size)
        jobs = jobs_of_plan(cut, settings, calibration.folder, data_set.folder)
        notices = calibration.cell_notices
        runs.append(DataSetRun(data_set, cut, jobs, size, first_chunk=0, notices=notices, trial=trial))
    return runs


def events_period(events: Sequence[CollectionEvents]) -> int | None:
    """Frames of one run of the events, if they are the same for all data sets and known."""
    tables = [one.table for one in events]
    periods = {len(t.frames) // t.n_runs for t in tables if t is not None and len(t.frames) % t.n_runs == 0}
    return periods.pop() if len(periods) == 1 else None


def known_sample(job: Job, plans: Sequence[Plan]) -> SampleSettings:
    """Cell and space group; what is unknown is sought in one data set after the other.

    Raises
    ------
    SettingsError
        The cell is unknown and found in none.
    """
    error: SettingsError | None = None
    for data_set, plan in zip(job.data_sets, plans, strict=True):
        begun = began_with(data_set, plan, job.settings)
        if begun is not None:
            return begun
    for data_set, plan in zip(job.data_sets, plans, strict=True):
        try:
            return sample_task(plan, job.settings, data_set.folder)
        except SettingsError as caught:
            error = caught
    raise error or SettingsError(f"{job.name} has no data sets")
