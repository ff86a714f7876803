"""Chunks in the jobs of a real Slurm."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.chunk_limits import ChunkLimits
from flows.dask_executor import slurm_cluster, slurm_workers
from flows.slurm_jobs import SlurmJobs
from tests.slurm import running_slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    with running_slurm() as configuration:
        yield configuration


def test_chunks_run_in_jobs_that_end_with_the_block(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SLURM_CONF", str(slurm))
    jobs = SlurmJobs(processes=2, memory="2GB", walltime="00:10:00", lifetime=None)
    with slurm_workers(jobs, ChunkLimits(), tmp_path / "logs") as executor:
        job_id = executor.submit(os.getenv, "SLURM_JOB_ID").result(timeout=120)
        assert job_id in _queue()
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result(timeout=60) == "1"
    stop = time.monotonic() + 60
    while _queue():
        assert time.monotonic() < stop
        time.sleep(0.2)


def _queue() -> list[str]:
    shown = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True)
    return shown.stdout.split()


def test_the_job_script_says_what_the_settings_say(tmp_path: Path):
    jobs = SlurmJobs(
        partition="ssx",
        account="mx",
        processes=4,
        memory="8GB",
        directives=("--reservation=beamtime",),
        prologue=("module load hdf5",),
    )
    with slurm_cluster(jobs, tmp_path / "logs") as cluster:
        script = cluster.job_script()
    directives = ("-p ssx", "-A mx", "--cpus-per-task=4", "--mem=8G", "-t 02:00:00", "--reservation=beamtime")
    lines = ["module load hdf5", "export OMP_NUM_THREADS=1", *(f"#SBATCH {line}" for line in directives)]
    assert [line for line in lines if line not in script.splitlines()] == []
    for option in ("--nthreads 1", "--nworkers 4", "--lifetime 110m"):
        assert option in script
