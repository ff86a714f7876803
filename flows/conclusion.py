"""The end of a job: merge what there is, report, tell ISPyB; with or without Prefect."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

from flows.data_set_run import DataSetRun, progress_line
from flows.job import Job
from flows.messages import one_line
from flows.outcome import CARRIER, Outcome, write_outcome
from flows.records import JobRecords
from flows.steps import LastSteps
from ispyb_io.ledger_records import WorkStatus
from ispyb_io.records import SampleComponent
from ssx_processing.errors import ChunkError, MergeError
from ssx_processing.formats.chunk_folder import remove_unfinished
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import FrameCounts, MergeSummary


def conclude(
    job: Job,
    runs: Sequence[DataSetRun],
    records: JobRecords,
    steps: LastSteps,
    changes: tuple[str, ...] = (),
) -> Outcome:
    """Merge what there is, report, put the result on its way to ISPyB.

    Parameters
    ----------
    changes
        Settings that differ from those of the result merged again.

    Raises
    ------
    ChunkError
        No chunk could be processed.
    SettingsError
        Subsets are told by events that are not known.
    MergeError
        Nothing can be merged; there are reports all the same.
    """
    if not any(run.summaries for run in runs):
        missing = missing_of(runs)
        raise ChunkError(f"{job.name}: none of {len(missing)} chunks could be processed; {missing[0]}")
    remove_unfinished(RunFolder(job.folder).merged)
    events = _applied_events(job, runs)
    try:
        merge = merge_runs(job, runs, steps)
    except MergeError as error:
        records.merge_failed(runs, error)
        # what was found on the frames is worth a look all the same
        write_reports(job, runs, steps, None, problem=one_line(error))
        raise
    outcome = outcome_of(job, runs, merge, changes, events)
    steps.tell(outcome)
    reports = write_reports(job, runs, steps, merge.folder)
    if not outcome.goes_on:
        records.merged(runs, merge, reports[0])
    outcome = replace(outcome, reports=reports)
    write_outcome(outcome)
    return outcome


def _applied_events(job: Job, runs: Sequence[DataSetRun]) -> tuple[str, ...]:
    """What must be known of the events; for images without ISPyB nothing is imported."""
    if not job.may_have_events:
        return ()
    from flows.event_chains import apply_events

    return apply_events(job, runs)


def settled(outcome: Outcome, records: JobRecords, wait_s: float) -> Outcome:
    """The outcome with what ISPyB has of it by now, or says to it."""
    sent = records.settle(wait_s)
    outcome = replace(outcome, program_ids=sent.program_ids)
    write_outcome(outcome)
    # what follows may be otherwise tomorrow, so the file does not have it
    notices = (*records.databases.notices, *sent.notices)
    return replace(
        outcome,
        message="; ".join((outcome.message, *notices)),
        notices=(*outcome.notices, *notices),
        refusals=sent.refusals,
    )


def missing_of(runs: Sequence[DataSetRun]) -> tuple[str, ...]:
    """One sentence for all that is not in the result."""
    return tuple(line for run in runs for line in run.missing)


def merge_runs(job: Job, runs: Sequence[DataSetRun], steps: LastSteps) -> MergeSummary:
    """Merge all chunks there are."""
    chunks = [summary for run in runs for _, summary in sorted(run.summaries.items())]
    missing = missing_of(runs)
    # after a merge with other settings these are not those of the chunks
    settings = runs[0].settings.model_copy(update={"merging": job.settings.merging})
    return steps.merge(
        chunks,
        settings,
        job.folder,
        len(chunks) + len(missing),
        missing,
        runs[0].plan.wavelength,
        job.sample_folder,
    )


def outcome_of(
    job: Job,
    runs: Sequence[DataSetRun],
    merge: MergeSummary,
    changes: tuple[str, ...],
    events: tuple[str, ...],
) -> Outcome:
    """What became of the job; its reports are still to be written."""
    chunks = [summary for run in runs for summary in run.summaries.values()]
    missing = missing_of(runs)
    expected = len(chunks) + len(missing)
    of_records = [f"{run.data_set.name}: {line}" for run in runs for line in run.record_notices]
    of_cells = [line for run in runs for line in run.notices]
    notices = tuple(dict.fromkeys([*of_cells, *of_records, *events]))
    counts = reduce(add, (run.counts for run in runs), FrameCounts())
    return Outcome(
        name=job.name,
        folder=job.folder,
        status=WorkStatus.PARTIAL if missing else WorkStatus.SUCCESS,
        goes_on=any(run.goes_on for run in runs) and not any(run.failures for run in runs),
        message=progress_line(counts, len(chunks), expected, (*missing, *notices)),
        counts=counts,
        chunks_expected=expected,
        chunks_done=len(chunks),
        chunks_reused=sum(chunk.reused for chunk in chunks),
        chunks_from_spots=sum(chunk.spots_reused and not chunk.reused for chunk in chunks),
        merge=merge,
        reports=tuple(job.page(run.data_set) for run in runs),
        run_folders=tuple(run.data_set.folder for run in runs),
        changes=changes,
        notices=notices,
        facts=sample_facts(job),
    )


def write_reports(
    job: Job, runs: Sequence[DataSetRun], steps: LastSteps, merge_folder: Path | None, problem: str = ""
) -> tuple[Path, ...]:
    """The page of each data set, with the merge that all are in."""
    facts, missing = sample_facts(job), missing_of(runs)
    reused = [summary.key for run in runs for summary in run.summaries.values() if summary.reused]
    return tuple(
        steps.report(
            run.data_set.folder,
            merge_folder,
            missing=missing,
            problem=problem,
            reused=reused,
            facts=facts,
            page=job.page(run.data_set),
        )
        for run in runs
    )


def sample_facts(job: Job) -> dict[str, str]:
    """What ISPyB knows of the sample, for the report's head."""
    group = job.group
    if job.chosen is not None:
        return {"proposal": job.chosen.proposal, "processing group": job.chosen.name}
    if group is None:
        return {}
    facts = {"proposal": group.proposal, "data collection group": str(group.group_id)}
    if group.sample is not None:
        facts |= {"sample": group.sample.name, "protein": group.sample.protein_acronym}
        facts |= _component_facts(group.sample.components)
    return facts


def _component_facts(components: Sequence[SampleComponent]) -> dict[str, str]:
    """Components by what they are there for, where there are any."""
    lists = {
        "ligands": [c.words for c in components if c.is_ligand],
        CARRIER: [c.substance for c in components if c.is_carrier],
        "components": [c.words for c in components if not c.is_ligand and not c.is_carrier],
    }
    return {name: "; ".join(words) for name, words in lists.items() if words}
