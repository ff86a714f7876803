"""Where chunks are computed: processes of this machine, behind ``concurrent.futures.Executor``."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from flows.chunk_limits import ChunkLimits
from ssx_processing.errors import SsxError

P = ParamSpec("P")
T = TypeVar("T")

WATCH_S = 0.5
"""Time from one look at time and memory of a chunk to the next."""
PRELOAD = ["flows.chunk_work"]
"""Imported once, before the workers are forked; never Prefect."""

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""Chunks are the unit of parallel work; libraries with threads of their own would compete."""


TRACKER_IS_QUIET = "ignore:resource_tracker"
"""Passed on to multiprocessing's tracker: it cleans up after an interrupted command, and need not say so."""


class WorkerDiedError(SsxError):
    """The process that computed a chunk was killed or ran out of memory."""


class ChunkLimitError(WorkerDiedError):
    """A chunk took more than the site allows, and its process was killed."""


class IsolatedProcesses(Executor):
    """Process pool in which a worker that dies takes down its own job only.

    A ``ProcessPoolExecutor`` fails every job it holds when one of its processes dies. This one
    has a pool of one process for each worker, and makes a new one when it breaks. Workers are
    forked from a clean server process that never imports Prefect, and end when their parent does.
    """

    def __init__(
        self,
        max_workers: int,
        *,
        limits: ChunkLimits | None = None,
    ) -> None:
        self._limits = limits or ChunkLimits(seconds=None)
        _start_fork_server(PRELOAD, dict.fromkeys(ONE_THREAD, "1"))
        self._threads = ThreadPoolExecutor(max_workers, thread_name_prefix="chunk")
        self._idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(max_workers):
            self._idle.put(_one_process())

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Future of ``fn(*args, **kwargs)``, computed in a worker process."""
        return self._threads.submit(self._run, fn, *args, **kwargs)

    def _run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        pool, excess = self._idle.get(), ""
        try:
            pid = pool.submit(os.getpid).result()
            future = pool.submit(fn, *args, **kwargs)
            excess = _watch(future, pid, self._limits)
            return future.result()
        except BrokenProcessPool as error:
            pool.shutdown(wait=False)
            pool = _one_process()
            if excess:
                raise ChunkLimitError(excess) from error
            raise WorkerDiedError(
                "the worker process died; killed by hand, by the batch system or for want of memory?"
            ) from error
        finally:
            self._idle.put(pool)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers; with ``cancel_futures`` also what they are just computing."""
        if cancel_futures:
            for process in multiprocessing.active_children():
                process.kill()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        while not self._idle.empty():
            self._idle.get().shutdown(wait=wait, cancel_futures=cancel_futures)


@contextmanager
def worker_processes(
    max_workers: int,
    *,
    limits: ChunkLimits | None = None,
) -> Iterator[Executor]:
    """Executor for the block; when the block fails, the workers are killed and not waited for.

    Parameters
    ----------
    limits
        A job beyond them fails with ``ChunkLimitError``.
    """
    pool = IsolatedProcesses(max_workers, limits=limits)
    with ending_work(pool) as executor:
        yield executor


@contextmanager
def ending_work(executor: Executor) -> Iterator[Executor]:
    """Shut an executor down after the block; when that fails, what is being computed is not waited for."""
    try:
        yield executor
    except BaseException:
        executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


def _watch(future: Future[Any], pid: int, limits: ChunkLimits) -> str:
    """Wait for a job; kill its process beyond the limits, and say which was exceeded."""
    started = time.monotonic()
    while not wait([future], timeout=WATCH_S).done:
        if limits.seconds is not None and time.monotonic() - started > limits.seconds:
            excess = f"took more than {limits.seconds:g} s (SSX_CHUNK_LIMITS, seconds); is the disk slow?"
        elif limits.memory_gb is not None and (used := _memory_gb(pid)) > limits.memory_gb:
            allowed = f"allowed are {limits.memory_gb:g} (SSX_CHUNK_LIMITS, memory_gb)"
            excess = f"took {used:.1f} GB of memory, {allowed}"
        else:
            continue
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait([future])
        return excess
    return ""


def _memory_gb(pid: int) -> float:
    """Resident memory of a process; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def _one_process() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_prepare_worker)


def _start_fork_server(preload: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start it, if it does not run, with these variables in its environment."""
    if TRACKER_IS_QUIET not in sys.warnoptions:
        sys.warnoptions.append(TRACKER_IS_QUIET)
    saved = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(preload))
        with _interrupts_ignored():
            forkserver.ensure_running()
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """What is started in the block ignores Ctrl-C, which is for the parent, from its first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare_worker() -> None:
    # Ctrl-C is for the parent, which then ends the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a line for each unreadable frame would tear the terminal's progress bar; the frames table has them
    logging.getLogger("ssx_processing").addHandler(logging.NullHandler())
    threading.Thread(target=_end_with_parent, daemon=True, name="parent watch").start()


def _end_with_parent() -> None:
    """Wait for the flow's process to end, then end at once.

    PR_SET_PDEATHSIG would not do: the kernel's parent of a worker is the fork server.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
