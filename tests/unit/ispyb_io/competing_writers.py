"""Eight processes that write results again and again, six of them killed at any moment.

A program of its own, ``python -m tests.unit.ispyb_io.competing_writers URL ID...``: processes are forked from
one that has no threads and holds nothing of the other tests.
"""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkProcess

import numpy as np

from ispyb_io.engines import open_engine
from ispyb_io.orm_client import OrmClient
from ispyb_io.protocol import UnavailableError
from ispyb_io.results import CollectionResult, MergedResult, Message, ResultStatus, Severity

from .made_results import LATER, START, collection_result, merged_result, without_numbers

N_WRITERS = 8
N_WRITES = 50
N_KILLED = 6
SEED = 20261126
Result = CollectionResult | MergedResult
FORK = multiprocessing.get_context("fork")


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
    ended = [process.exitcode for process in processes]
    if any(ended):
        sys.exit(f"writers ended with {ended}")


if __name__ == "__main__":
    run_writers(sys.argv[1], [int(id_) for id_ in sys.argv[2:]])
