"""The plan of a data set: of files that are complete, or of a collection that goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.arrival import Arrival, look_at_files
from flows.job import DataSet, Job
from flows.settings import SiteSettings
from ssx_processing.formats.run_folder import RunFolder
from ssx_processing.models import Plan
from ssx_processing.pipeline.plan import make_growing_plan, make_plan
from ssx_processing.settings import RequestedSettings, SampleSettings, StageSettings


def plan_now(data_set: DataSet, settings: StageSettings, site: SiteSettings) -> Plan:
    """Plan what is there of a data collection, or files that must be complete; errors as `plan_of`."""
    arrival = None if data_set.collection is None else look_at_files(data_set, site)
    return plan_of(data_set, settings, arrival)


def check_files(job: Job, site: SiteSettings) -> None:
    """Raise what would stop the processing before its first frame."""
    for data_set in job.data_sets:
        plan_now(data_set, job.settings, site)


def plan_of(data_set: DataSet, settings: StageSettings, arrival: Arrival | None) -> Plan:
    """Plan a data set as it is now.

    One that was begun while it was collected goes on as it began: its chunks are found again.

    Parameters
    ----------
    arrival
        What of it is there; None for files that must be complete.

    Raises
    ------
    ImageReadError, GeometryError
        As `make_plan`.
    """
    geometry = data_set.geometry_file
    if arrival is None:
        return make_plan(data_set.paths, settings, geometry)
    if not arrival.lacking and not _began_growing(planned_before(data_set)):
        return make_plan(arrival.paths, settings, geometry)
    plan = make_growing_plan(arrival.paths, settings, arrival.expected, geometry)
    if arrival.lacking or planned_before(data_set)["plan"]["identity"] == plan.identity:
        return plan
    return make_plan(arrival.paths, settings, geometry)


def planned_before(data_set: DataSet) -> Mapping[str, Any]:
    """What plan.json of a data set says; nothing where there is none that can be read."""
    return read_plan(data_set.folder)


def read_plan(folder: Path) -> Mapping[str, Any]:
    """What plan.json in the folder of a data set says; nothing where there is none that can be read."""
    try:
        return json.loads(RunFolder(folder).plan.read_text())
    except (OSError, ValueError):
        return {}


def began_with(data_set: DataSet, plan: Plan, settings: RequestedSettings) -> SampleSettings | None:
    """The sample that a collection that goes on was begun with, if it was with these settings."""
    before = planned_before(data_set)
    if not _began_growing(before) or before["plan"]["identity"] != plan.identity:
        return None
    sample = SampleSettings.model_validate(before["settings"]["sample"])
    is_same = settings.with_sample(sample).model_dump(mode="json") == before["settings"]
    return sample if is_same and settings.sample.known in (None, sample) else None


def chunk_size_before(data_set: DataSet, plan: Plan) -> int | None:
    """Frames of a chunk of a collection that goes on, as it was begun."""
    before = planned_before(data_set)
    if not _began_growing(before) or before["plan"]["identity"] != plan.identity:
        return None
    return before["frames_per_chunk"]


def _began_growing(planned: Mapping[str, Any]) -> bool:
    return bool(planned) and planned["plan"].get("frames_there") is not None
