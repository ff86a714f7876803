"""Eight processes write results again and again, some killed at any moment: no row doubles.

On every database. What is expected is counted by hand, table by table.
"""

import subprocess
import sys

from sqlalchemy import Engine, inspect, text

from ispyb_io import result_tables as in_ispyb
from ispyb_io.beamline import CollectedIds
from ispyb_io.orm_client import OrmClient
from tests.conftest import ROOT

from .competing_writers import runs, write
from .rows import rows, statuses

EXPECTED = {
    "AutoProcProgram": 7,  # two keys for each of two data collections, three for the merge
    "AutoProcProgramAttachment": 4 * 3 + 3,
    "AutoProcIntegration": 4 + 3 * 2,
    "AutoProc": 2,  # of the merges that succeeded
    "AutoProcScaling": 2,
    "AutoProcScalingStatistics": 2 * 3,
    "AutoProcScaling_has_Int": 2 * 2,
    "ProcessingJob": 7,
    "ProcessingJobImageSweep": 4 + 3 * 2,
    "ProcessingJobParameter": 7,
    "AutoProcProgramMessage": 4,
    "SSXProcessingResult": 2 * 2,  # preliminary and final
    "SSXProcessingResultAttachment": 2 * 2 * 3,
}


def counted(engine: Engine) -> dict[str, int]:
    names = set(EXPECTED) & set(inspect(engine).get_table_names())
    with engine.connect() as connection:
        return {name: connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar_one() for name in names}  # noqa: S608


def test_every_row_is_there_once(ispyb: Engine, second: CollectedIds):
    ids = [second.data_collection_id - 1, second.data_collection_id]
    ispyb.dispose()  # no connection is shared with the processes
    command = [sys.executable, "-m", "tests.unit.ispyb_io.competing_writers"]
    command += [ispyb.url.render_as_string(hide_password=False), *map(str, ids)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for results in runs(ids):
        write(OrmClient(ispyb), results)
    found = counted(ispyb)
    assert found == {name: EXPECTED[name] for name in found}
    assert sorted(map(str, statuses(ispyb))) == ["FAILED", *["SUCCESS"] * 6]
    programs = rows(ispyb, in_ispyb.AutoProcProgram)
    superseded = [p for p in programs if "| superseded by program" in p["processingMessage"]]
    assert {p["processingEnvironment"].split()[0] for p in superseded} >= {"ssxorch:key1", "ssxorch:merge1"}
    assert len(superseded) == 4  # two data collections, the merge, and the failure that began as early
    assert sorted(p["dataCollectionId"] for p in programs if p.get("dataCollectionId")) in ([], ids)
