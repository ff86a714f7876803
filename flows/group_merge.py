"""Merging a group that somebody chose: chunks of members, each processed in its own group of ISPyB."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.data_set_run import DataSetRun
from flows.databases import Databases, processing_of
from flows.group_members import add_by_rule
from flows.group_names import folder_name
from flows.job import Job, merged_mappings, sample_folder, site_folder
from flows.permissions import check_across, check_files
from flows.processed_job import changed_settings, processed_before, with_paths_if_there
from flows.settings import SiteSettings
from ispyb_io.ledger_records import Processing, ProcessingGroup, newest_result
from ispyb_io.protocol import IspybError
from ispyb_io.records import DataCollectionGroup
from ssx_processing.errors import SettingsError, SsxError
from ssx_processing.models import UnitCell
from ssx_processing.settings import RequestedSettings

CELL_LENGTH_TOLERANCE = 0.02
"""Relative difference of cell edges up to which members are processed as the same crystal form."""
CELL_ANGLE_TOLERANCE_DEG = 1.0


@dataclass(frozen=True)
class MergePlan:
    """What is merged, and with which settings it was before."""

    job: Job
    runs: tuple[DataSetRun, ...]
    settings_before: Mapping[str, Any]
    """Of the group's last merge; of its first member's processing where there was none."""


def plan_merge(
    group: ProcessingGroup, overrides: Mapping[str, Any], databases: Databases, site: SiteSettings
) -> MergePlan:
    """The job of a chosen group, from what its included members were processed to last.

    Members that a rule finds now have joined.

    Raises
    ------
    SettingsError
        There is no member, one is not processed, or they are not processed alike.
    NotAllowedError
        Members are of proposals that the site does not let be processed together.
    """
    add_by_rule(group, databases, site)
    members = databases.ledger.members(group.group_id)
    included = {member.data_collection_id for member in members if member.included}
    if not included:
        raise SettingsError(f"the group {group.name} has no members; see ssx groups show {group.name!r}")
    every = {member.data_collection_id for member in members}
    collected = databases.require_ispyb().groups_with(data_collection_ids=sorted(every))
    used = [g for g in collected if included & {c.data_collection_id for c in g.data_collections}]
    check_across(site, group.proposal, {g.proposal for g in used})
    runs, processings = processed_members(used, included, databases, site)
    refuse_unlike(runs, processings)
    return job_of_members(group, tuple(collected), runs, processings, overrides, databases, site)


def processed_members(
    collected: Iterable[DataCollectionGroup], included: set[int], databases: Databases, site: SiteSettings
) -> tuple[tuple[DataSetRun, ...], dict[int, Processing]]:
    """Chunks of the included data collections, and the processing of each; all that lacks is said at once."""
    runs: list[DataSetRun] = []
    processings: dict[int, Processing] = {}
    problems: list[str] = []
    for group in collected:
        wanted = sorted(included & {c.data_collection_id for c in group.data_collections})
        try:
            last = processing_of(databases.ledger, group.group_id, None)
            _, found = processed_before(last, RequestedSettings(), databases, site)
        except (SsxError, IspybError) as error:
            problems.append(f"{_named(wanted)}: {error} (ssx process --group {group.group_id})")
            continue
        by_id = {run.data_set.collection.data_collection_id: run for run in found if run.data_set.collection}
        if lacking := [id_ for id_ in wanted if id_ not in by_id]:
            problems.append(
                f"{_named(lacking)}: excluded from group {group.group_id}, so not processed there"
            )
        for id_ in wanted:
            if id_ in by_id:
                by_id[id_].first_chunk = sum(len(run.chunk_jobs) for run in runs)
                runs.append(by_id[id_])
                processings[id_] = last
    if problems:
        raise SettingsError("not all members can be merged: " + "; ".join(problems))
    if not runs:
        raise SettingsError(f"{_named(sorted(included))}: not in ISPyB any more")
    return tuple(runs), processings


def refuse_unlike(runs: Iterable[DataSetRun], processings: Mapping[int, Processing]) -> None:
    """Raise if members are not processed with the same space group and nearly the same cell.

    Raises
    ------
    SettingsError
        Tells what differs and how to process them alike.
    """
    first, *others = runs
    ours = first.settings.sample
    for run in others:
        theirs = run.settings.sample
        if theirs.space_group == ours.space_group and _cells_agree(ours.unit_cell, theirs.unit_cell):
            continue
        collection = run.data_set.collection
        group_id = processings[collection.data_collection_id].data_collection_group_id if collection else None
        cell = ",".join(f"{value:g}" for value in ours.unit_cell)
        raise SettingsError(
            f"{run.data_set.name} was processed as {theirs.space_group} {_words(theirs.unit_cell)}, "
            f"{first.data_set.name} as {ours.space_group} {_words(ours.unit_cell)}; exclude it (ssx groups "
            f"exclude), or process it alike: ssx process --group {group_id} --cell {cell} "
            f"--space-group {ours.space_group}"
        )


def job_of_members(
    group: ProcessingGroup,
    collected: tuple[DataCollectionGroup, ...],
    runs: tuple[DataSetRun, ...],
    processings: Mapping[int, Processing],
    overrides: Mapping[str, Any],
    databases: Databases,
    site: SiteSettings,
) -> MergePlan:
    """The job, with the settings and in the folder of the group's last merge if there was one."""
    ids = [run.data_set.collection.data_collection_id for run in runs if run.data_set.collection]
    first = processings[ids[0]]
    home = with_paths_if_there(
        next(g for g in collected if g.group_id == first.data_collection_group_id), site
    )
    last = newest_result(databases.ledger.processings(group_id=group.group_id))
    before = merged_mappings(first.settings, {"merging": last.settings["merging"]} if last else {})
    settings = changed_settings(first.model_copy(update={"settings": before}), overrides)
    name = folder_name(group.name, group.group_id)
    folder = last.folder if last else site_folder(site.merged_folder, home, name).resolve()
    of_sample = sample_folder(home, first.folder, site)
    check_files(site, group.proposal, settings=settings, others=(folder, of_sample))
    data_sets = tuple(run.data_set for run in runs)
    job = Job(group.name, data_sets, settings, folder, None, of_sample, group, collected)
    return MergePlan(job, runs, before)


def _cells_agree(one: UnitCell, other: UnitCell) -> bool:
    lengths = all(abs(b / a - 1) <= CELL_LENGTH_TOLERANCE for a, b in zip(one[:3], other[:3], strict=True))
    angles = (abs(b - a) <= CELL_ANGLE_TOLERANCE_DEG for a, b in zip(one[3:], other[3:], strict=True))
    return lengths and all(angles)


def _words(cell: UnitCell) -> str:
    return " ".join(f"{value:.2f}" for value in cell)


def _named(ids: Iterable[int]) -> str:
    return f"data collection {', '.join(map(str, ids))}"
