"""``group.json``: what was merged together and what was not, for those who have the merge's folder only."""

import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.data_set_run import DataSetRun
from flows.job import Job
from ispyb_io.ledger_records import Member, ProcessingGroup
from ispyb_io.records import DataCollectionGroup, Sample
from ssx_processing.formats.chunk_folder import write_json
from ssx_processing.models import MergeSummary

GROUP_FILE = "group.json"


@dataclass(frozen=True)
class GroupFacts:
    """All that the file says."""

    group: ProcessingGroup
    members: Sequence[Member]
    """Those kept out too."""
    job: Job
    runs: Sequence[DataSetRun]
    merge: MergeSummary
    versions: Mapping[str, str]
    merged_by: str
    merged_at: datetime.datetime


def write_group_file(facts: GroupFacts) -> Path:
    """Write the file into the merge's folder, whole or not at all; returns its path."""
    group, merge = facts.group, facts.merge
    merged = _merged_by_chunk(merge.folder)
    content = {
        "name": group.name,
        "kind": group.kind,
        "proposal": group.proposal,
        "ledger_id": group.group_id,
        "data_collection_group_id": group.data_collection_group_id,
        "rule": group.rule.model_dump(mode="json") if group.rule else None,
        "created_by": group.created_by,
        "created_at": group.created_at.isoformat(),
        "members": [_member(member, facts, merged) for member in facts.members],
        "merge": {"key": merge.key, "lattices_merged": merge.lattices_merged, "missing": list(merge.missing)},
        "settings": {
            "sample": facts.runs[0].settings.sample.model_dump(mode="json"),
            "merging": facts.job.settings.merging.model_dump(mode="json"),
        },
        "versions": dict(facts.versions),
        "merged_by": facts.merged_by,
        "merged_at": facts.merged_at.isoformat(timespec="seconds"),
    }
    path = merge.folder / GROUP_FILE
    write_json(path, content)
    return path


def folders_in_group_file(path: Path) -> tuple[Path, ...]:
    """Folders in which the members of a merge were processed."""
    members = json.loads(path.read_text())["members"]
    return tuple(Path(member["processed_in"]) for member in members if member["merged"])


def _merged_by_chunk(merge_folder: Path) -> Mapping[str, int]:
    """How many lattices of each chunk were merged."""
    import pandas as pd  # takes long, and reports of failures do without

    table = pd.read_parquet(merge_folder / "lattices.parquet", columns=["chunk", "filter_reason"])
    return Counter(table.loc[table["filter_reason"] == "", "chunk"])


def _member(member: Member, facts: GroupFacts, merged: Mapping[str, int]) -> dict[str, Any]:
    id_ = member.data_collection_id
    run = next((run for run in facts.runs if _id(run) == id_), None)
    content = {
        "data_collection_id": id_,
        "included": member.included,
        "reason": member.reason,
        **_origin(facts.job.group_of(id_)),
    }
    if run is None:
        return {**content, "merged": False}
    return {
        **content,
        "merged": True,
        "first_image": 1,
        "last_image": run.plan.frames_total,
        "frames_total": run.counts.frames_total,
        "lattices_indexed": run.counts.lattices_indexed,
        "lattices_merged": sum(merged.get(chunk_job.key, 0) for chunk_job in run.chunk_jobs),
        "processed_in": str(run.data_set.folder),
    }


def _origin(group: DataCollectionGroup | None) -> dict[str, Any]:
    """Where a data collection comes from; nothing where ISPyB has it no more."""
    if group is None:
        return {}
    sample = group.sample
    return {
        "data_collection_group_id": group.group_id,
        "proposal": group.proposal,
        "session_id": group.session_id,
        "visit": group.visit_number,
        "beamline": group.beamline,
        "sample_id": sample.sample_id if sample else None,
        "sample": sample.name if sample else None,
        "protein": sample.protein_acronym if sample else None,
    }


def common_sample(job: Job, runs: Sequence[DataSetRun]) -> int | None:
    """BLSample that all data sets merged are of."""
    samples = _samples(job, runs)
    ids = {sample.sample_id if sample else None for sample in samples}
    return ids.pop() if len(ids) == 1 else None


def common_sample_group(job: Job, runs: Sequence[DataSetRun]) -> int | None:
    """BLSampleGroup that the several samples merged are all in; the oldest of them."""
    samples = _samples(job, runs)
    if common_sample(job, runs) is not None:
        return None
    shared = set.intersection(*(set(sample.sample_group_ids) if sample else set() for sample in samples))
    return min(shared, default=None)


def _samples(job: Job, runs: Sequence[DataSetRun]) -> list[Sample | None]:
    groups = [job.group_of(_id(run)) for run in runs]
    return [group.sample if group else None for group in groups]


def _id(run: DataSetRun) -> int | None:
    return run.data_set.collection.data_collection_id if run.data_set.collection else None
