"""Chunks on a Dask cluster that runs, or in the jobs of a batch system; a ``concurrent.futures.Executor``."""

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flows.chunk_limits import ChunkLimits, within
from flows.executor import ONE_THREAD, WorkerDiedError, ending_work
from flows.slurm_jobs import SlurmJobs
from ssx_processing.errors import SettingsError

if TYPE_CHECKING:
    from distributed.cfexecutor import ClientExecutor

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 60
END_TIMEOUT_S = 10


class DaskWorkers(Executor):
    """The workers of a Dask scheduler, which must see our files under the same paths.

    A worker that dies is Dask's to replace: it gives the chunk to another one, three times. When the
    scheduler itself is started anew, the chunks that it held fail with ``WorkerDiedError`` and may be
    submitted again: the connection is made anew.

    Parameters
    ----------
    address
        ``tcp://host:8786``, or the path of the scheduler's file.
    seconds
        A worker ends itself if a chunk takes longer; None: not limited.

    Raises
    ------
    SettingsError
        Nobody answers there.
    """

    def __init__(self, address: str, seconds: float | None = None) -> None:
        self._address, self._seconds = address, seconds
        self._lock = threading.Lock()
        self._ended = False
        self._client: Any = self._connect()  # distributed's types mix in its coroutines
        self._executor: ClientExecutor = self._client.get_executor(pure=False)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Future of ``fn(*args, **kwargs)``, computed by a worker."""
        result: Future[T] = Future()
        timed = fn if self._seconds is None else partial(within, self._seconds, fn)
        computed = self._connected().submit(timed, *args, **kwargs)
        computed.add_done_callback(partial(_pass_on, result, self._seconds))
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; with ``cancel_futures`` what it is just computing for us is ended, too."""
        with self._lock:
            self._ended = True
            if cancel_futures:
                self._end_what_runs()
            self._executor.shutdown(wait=wait and not cancel_futures)
            self._client.close(timeout=END_TIMEOUT_S)

    def _connect(self) -> Any:
        client = _dask("distributed").Client
        where: dict[str, Any] = (
            {"scheduler_file": self._address} if Path(self._address).is_file() else {"address": self._address}
        )
        try:
            return client(**where, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"no Dask scheduler answers at {self._address} ({error}); is it running, and is "
                "SSX_DASK_SCHEDULER its address, e.g. tcp://host:8786?"
            ) from error

    def _connected(self) -> "ClientExecutor":
        """The connection; anew where a scheduler was away for so long that Dask gave it up."""
        with self._lock:
            if self._ended:
                raise RuntimeError("the executor is shut down; it takes no more chunks")
            if self._client.status == "closed":
                logger.warning("the Dask scheduler %s was away; connecting again", self._address)
                self._client = self._connect()
                self._executor = self._client.get_executor(pure=False)
            return self._executor

    def _end_what_runs(self) -> None:
        """Dask cannot stop a function: start those workers anew that compute for us and nobody else."""
        if self._client.status != "running":
            return
        ours = set(self._client.futures)
        with suppress(OSError, TimeoutError):
            threads, processing = self._client.nthreads(), self._client.processing()
            busy = [
                worker for worker, keys in processing.items() if threads.get(worker) == 1 and set(keys) & ours
            ]
            self._executor.shutdown(wait=False)
            if busy:
                self._client.restart_workers(busy, timeout=END_TIMEOUT_S, raise_for_error=False)


def _pass_on(result: "Future[T]", seconds: float | None, computed: "Future[T]") -> None:
    """Give the outcome on, with Dask's own errors in our words."""
    error = CancelledError() if computed.cancelled() else computed.exception()
    if error is None:
        result.set_result(computed.result())
    elif isinstance(error, CancelledError):
        result.set_exception(
            WorkerDiedError("the Dask scheduler lost the chunk; was it started anew, or the chunk cancelled?")
        )
    elif type(error).__name__ == "KilledWorker":
        slow = "" if seconds is None else f" or longer than {seconds:g} s (SSX_CHUNK_LIMITS, seconds)"
        result.set_exception(
            WorkerDiedError(
                f"Dask's workers died of the chunk, one after the other; out of memory{slow}? ({error})"
            )
        )
    else:
        result.set_exception(error)


@contextmanager
def dask_workers(address: str, limits: ChunkLimits) -> Iterator[Executor]:
    """Executor for the block; when the block fails, what the cluster computes for us is ended."""
    with ending_work(DaskWorkers(address, limits.seconds)) as executor:
        yield executor


@contextmanager
def slurm_workers(jobs: SlurmJobs, limits: ChunkLimits, folder: Path) -> Iterator[Executor]:
    """Executor on workers that run as Slurm jobs, started for the block and cancelled at its end.

    Parameters
    ----------
    folder
        Where the jobs write their logs.
    """
    with slurm_cluster(jobs, folder) as cluster:
        cluster.scale(jobs=jobs.jobs)
        with dask_workers(cluster.scheduler_address, limits) as executor:
            yield executor


def slurm_cluster(jobs: SlurmJobs, folder: Path) -> Any:
    """``dask_jobqueue.SLURMCluster``; ``job_script()`` shows what will be submitted."""
    folder.mkdir(parents=True, exist_ok=True)
    return _dask("dask_jobqueue").SLURMCluster(
        queue=jobs.partition,
        account=jobs.account,
        cores=jobs.processes,
        processes=jobs.processes,
        memory=jobs.memory,
        walltime=jobs.walltime,
        interface=jobs.interface,
        python=jobs.python,
        job_extra_directives=list(jobs.directives),
        job_script_prologue=[*(f"export {name}=1" for name in ONE_THREAD), *jobs.prologue],
        worker_extra_args=["--lifetime", jobs.lifetime, "--lifetime-stagger", "4m"] if jobs.lifetime else [],
        log_directory=str(folder),
        scheduler_options={"dashboard_address": ":0"},  # several flows on one host
    )


def _dask(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"the executor needs {error.name}; install it: uv sync --extra dask, or pip install "
            "'ssx-orchestrator[dask]'"
        ) from error
