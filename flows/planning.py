"""The plan of a data set: of files that are complete, or of a collection that goes on."""

import json
from collections.abc import Mapping
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
    began_growing = planned_before(data_set).get("plan", {}).get("frames_there") is not None
    if arrival.lacking or began_growing:
        plan = make_growing_plan(arrival.paths, settings, arrival.expected, geometry)
        if arrival.lacking or begun_before(data_set, plan):
            return plan
    return make_plan(arrival.paths, settings, geometry)


def begun_before(data_set: DataSet, plan: Plan) -> Mapping[str, Any]:
    """What plan.json says of a collection that goes on, where it was begun; nothing for all others."""
    before = planned_before(data_set)
    is_begun = plan.frames_there is not None and before.get("plan", {}).get("identity") == plan.identity
    return before if is_begun else {}


def planned_before(data_set: DataSet) -> Mapping[str, Any]:
    """What plan.json of a data set says; nothing where there is none that can be read."""
    try:
        return json.loads(RunFolder(data_set.folder).plan.read_text())
    except (OSError, ValueError):
        return {}


def began_with(data_set: DataSet, plan: Plan, settings: RequestedSettings) -> SampleSettings | None:
    """The sample that a collection that goes on was begun with, if it was with these settings."""
    before = begun_before(data_set, plan)
    if not before:
        return None
    sample = SampleSettings.model_validate(before["settings"]["sample"])
    is_same = settings.with_sample(sample).model_dump(mode="json") == before["settings"]
    return sample if is_same and settings.sample.known in (None, sample) else None
