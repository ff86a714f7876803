"""What computes chunks, as the site's settings name it: always a ``concurrent.futures.Executor``."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from flows.dask_executor import dask_workers, slurm_workers
from flows.executor import worker_processes
from flows.settings import SiteSettings


@contextmanager
def chunk_engine(site: SiteSettings, folder: Path) -> Iterator[Executor]:
    """Executor for the block; when the block fails, what is being computed is ended and not waited for.

    Parameters
    ----------
    folder
        Of the results; the batch system's logs go there.
    """
    if site.executor == "dask":
        with dask_workers(str(site.dask_scheduler), site.chunk_limits) as executor:
            yield executor
    elif site.executor == "slurm":
        with slurm_workers(site.slurm, site.chunk_limits, folder / "slurm") as executor:
            yield executor
    else:
        with worker_processes(site.n_workers, limits=site.chunk_limits) as executor:
            yield executor
