"""Settings of Slurm jobs that compute chunks."""

from pydantic import BaseModel, ConfigDict, PositiveInt


class SlurmJobs(BaseModel):
    """Slurm jobs, each with worker processes that compute chunks."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    partition: str | None = None
    """Of Slurm; none: its default."""
    account: str | None = None
    """Who pays."""
    jobs: PositiveInt = 1
    """How many are submitted."""
    processes: PositiveInt = 8
    """Workers of a job, each computing one chunk at a time on one core."""
    memory: str = "16GB"
    """Of a job; Dask stops a worker that takes more than its share."""
    walltime: str = "02:00:00"
    """Longest time of a job."""
    lifetime: str | None = "110m"
    """Workers end this long after their start, before Slurm would kill them in mid-chunk."""
    python: str | None = None
    """Python of the nodes, with this package; none: the path of our own."""
    interface: str | None = None
    """Network interface, e.g. ib0, where the nodes do not reach the default one."""
    directives: tuple[str, ...] = ()
    """More lines of #SBATCH, e.g. "--reservation=beamtime"."""
    prologue: tuple[str, ...] = ()
    """Lines of shell before the workers start, e.g. "module load hdf5"."""
