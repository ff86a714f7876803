"""Eight processes write results again and again, some killed at any moment: no row doubles.

On every database. What is expected is counted by hand, table by table.
"""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.context import ForkProcess

import numpy as np
from sqlalchemy import Engine, inspect, text

from ispyb_io import result_tables as in_ispyb
from ispyb_io.beamline import CollectedIds
from ispyb_io.engines import open_engine
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import UnavailableError
from ispyb_io.results import CollectionResult, MergedResult, Message, ResultStatus, Severity

from .made_results import LATER, START, collection_result, merged_result, without_numbers
from .rows import rows, statuses

N_WRITERS = 8
N_WRITES = 50
N_KILLED = 6
SEED = 20261126
Result = CollectionResult | MergedResult
FORK = multiprocessing.get_context("fork")
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


def runs(ids: list[int]) -> Sequence[Sequence[Result]]:
    """What is written: each data collection with two keys, growing first; merges of one name with three."""
    told = (Message(severity=Severity.INFO, text="800 hits"),)
    collections = [
        [
            collection_result(id_, key=key, started=started, messages=told, status=ResultStatus.RUNNING),
            collection_result(id_, key=key, started=started, messages=told),
        ]
        for id_ in ids
        for key, started in (("key1", START), ("key2", LATER))
    ]
    merges = [merged_result(*ids), merged_result(*ids, key="merge2", started=LATER)]
    failed = without_numbers(merges[0], ResultStatus.FAILED, key="merge3", message="no lattices")
    return [*collections, *([merge] for merge in (*merges, failed))]


def write_again_and_again(url: str, ids: list[int], seed: int) -> None:
    """Run in a process of its own; a database that is too busy for a result takes it another time."""
    client, chosen = OrmClient(open_engine(url)), np.random.default_rng(seed)
    everything = runs(ids)
    for _ in range(N_WRITES):
        try:
            write(client, everything[int(chosen.integers(len(everything)))])
        except UnavailableError:
            continue


def write(client: OrmClient, results: Sequence[Result]) -> None:
    for result in results:
        if isinstance(result, CollectionResult):
            client.record_collection_result(result)
        else:
            client.record_merged_result(result)


def started(url: str, ids: list[int], seed: int) -> ForkProcess:
    process = FORK.Process(target=write_again_and_again, args=(url, ids, seed))
    process.start()
    return process


def run_writers(url: str, ids: list[int]) -> None:
    """Eight at a time; who is killed is replaced."""
    chosen = np.random.default_rng(SEED)
    processes = [started(url, ids, seed) for seed in range(N_WRITERS)]
    for killed in range(N_KILLED):
        time.sleep(chosen.uniform(0.05, 0.4))
        victim = int(chosen.integers(N_WRITERS))
        processes[victim].kill()
        processes[victim].join()
        processes[victim] = started(url, ids, N_WRITERS + killed)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * N_WRITERS


def counted(engine: Engine) -> dict[str, int]:
    names = set(EXPECTED) & set(inspect(engine).get_table_names())
    with engine.connect() as connection:
        return {name: connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar_one() for name in names}  # noqa: S608


def test_every_row_is_there_once(ispyb: Engine, second: CollectedIds):
    ids = [second.data_collection_id - 1, second.data_collection_id]
    ispyb.dispose()  # no connection is shared with the processes
    run_writers(ispyb.url.render_as_string(hide_password=False), ids)
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
