"""Diamond's ProcessingJob of a result: one sweep for each data collection, and what it is known by."""

from collections.abc import Sequence
from typing import Any

from ispyb_io import site_tables
from ispyb_io.attempts import Attempt
from ispyb_io.column_types import table
from ispyb_io.flavour import Flavour
from ispyb_io.result_rows import ResultRows
from ispyb_io.results import CollectionResult, MergedMember, MergedResult, shorten

JOB = table(site_tables.ProcessingJob)
SWEEP = table(site_tables.ProcessingJobImageSweep)
PARAMETER = table(site_tables.ProcessingJobParameter)
RECIPE = "ssx-orchestrator"
"""Of all our jobs. It is no recipe of Zocalo's: nobody is to run it."""
KEY_PARAMETER = "ssxorch_key"


def put_job(
    rows: ResultRows,
    flavour: Flavour,
    existing: Attempt | None,
    result: CollectionResult | MergedResult,
    members: Sequence[MergedMember],
) -> int | None:
    """Put the job of a result with sweeps and parameters; returns its id, None where there are no jobs."""
    if not flavour.has(JOB.name):
        return None
    values = {
        "dataCollectionId": members[0].data_collection_id,
        "displayName": shorten(result.program, 80),
        "comments": result.command_line,
        "recipe": RECIPE,
        "automatic": 1,
    }
    if existing is None or existing.job_id is None:
        job_id = rows.add(JOB, values)  # in one transaction with its program, which names it
    else:
        job_id = rows.put(JOB, {"processingJobId": existing.job_id}, values)
    for member in members:
        rows.put(
            SWEEP,
            {"processingJobId": job_id, "dataCollectionId": member.data_collection_id},
            {"startImage": member.first_image, "endImage": member.last_image},
        )
    for name, value in _parameters(result).items():
        rows.put(PARAMETER, {"processingJobId": job_id, "parameterKey": name}, {"parameterValue": str(value)})
    return job_id


def _parameters(result: CollectionResult | MergedResult) -> dict[str, Any]:
    """The key; and the sample or group of samples, after which SynchWeb calls a merge."""
    parameters: dict[str, Any] = {KEY_PARAMETER: result.key}
    if isinstance(result, MergedResult):
        if result.sample_group_id is not None:
            parameters["sample_group_id"] = result.sample_group_id
        elif result.sample_id is not None:
            parameters["sample_id"] = result.sample_id
    return parameters
