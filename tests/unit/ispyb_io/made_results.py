"""Results for the tests to write, and how many rows they made."""

import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from ispyb_io import result_tables as in_ispyb
from ispyb_io.results import (
    Attachment,
    CollectionResult,
    FileType,
    MergedMember,
    MergedResult,
    MergingStatistics,
    ResolutionShell,
    ResultStatus,
)

from .rows import count

CELL = (79.1, 79.2, 37.9, 90.0, 90.0, 90.0)
START = datetime.datetime(2026, 11, 21, 10, 0, 0)
LATER = START + datetime.timedelta(minutes=10)
RESULT_TABLES = (
    in_ispyb.AutoProcProgram,
    in_ispyb.AutoProcProgramAttachment,
    in_ispyb.AutoProcIntegration,
    in_ispyb.AutoProc,
    in_ispyb.AutoProcScaling,
    in_ispyb.AutoProcScalingStatistics,
    in_ispyb.AutoProcScaling_has_Int,
)


def counts(engine: Engine) -> list[int]:
    return [count(engine, model) for model in RESULT_TABLES]


def collection_result(data_collection_id: int, **changes: Any) -> CollectionResult:
    values: dict[str, Any] = {
        "data_collection_id": data_collection_id,
        "key": "key1",
        "program": "ssx",
        "command_line": "ssx process --group 1",
        "status": ResultStatus.SUCCESS,
        "message": "800 hits (40.0 %)",
        "started": START,
        "ended": START + datetime.timedelta(minutes=3),
        "last_image": 2000,
        "median_cell": CELL,
        "attachments": (
            Attachment(path=Path("/proc/key1/ssx_stats.json")),
            Attachment(path=Path("/proc/key1/ssx_cells.json")),
            Attachment(path=Path("/proc/key1/chunks.log"), file_type=FileType.LOG),
        ),
    }
    return CollectionResult(**(values | changes))


def shell(which: ResolutionShell, d_max: float, d_min: float) -> MergingStatistics:
    return MergingStatistics(
        resolution_shell=which,
        d_max=d_max,
        d_min=d_min,
        n_observations=90000,
        n_reflections=11000,
        completeness=0.995,
        multiplicity=8.25,
        mean_i_over_sigma=6.5,
        cc_half=0.975,
        cc_star=0.99366,
        r_split=0.1234,
        r_merge=0.31,
        r_meas=0.33,
        r_pim=0.11,
        cc_anomalous=0.12,
        anomalous_completeness=0.98,
        d_where_i_is_2_sigma=2.1,
    )


SHELLS = (
    shell(ResolutionShell.OUTER, 1.9, 1.8),
    shell(ResolutionShell.INNER, 40.0, 4.9),
    shell(ResolutionShell.OVERALL, 40.0, 1.8),
)


def merged_result(*data_collection_ids: int, **changes: Any) -> MergedResult:
    values: dict[str, Any] = {
        "name": "chip 7: all",
        "key": "merge1",
        "program": "ssx merge",
        "status": ResultStatus.SUCCESS,
        "message": "640 lattices merged, 10 of 10 chunks",
        "started": START,
        "ended": START,
        "members": tuple(
            MergedMember(data_collection_id=i, last_image=2000, median_cell=CELL) for i in data_collection_ids
        ),
        "space_group": "P43212",
        "unit_cell": CELL,
        "statistics": SHELLS,
        "attachments": (Attachment(path=Path("/proc/merge1/merged.mtz")),),
    }
    return MergedResult(**(values | changes))


def without_numbers(result: MergedResult, status: ResultStatus, **changes: Any) -> MergedResult:
    empty = {"status": status, "space_group": None, "unit_cell": None, "statistics": ()}
    return MergedResult(**(result.model_dump() | empty | changes))
