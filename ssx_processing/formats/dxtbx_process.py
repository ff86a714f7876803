"""dxtbx in a side process: the interpreter that has it is found, the process asked, and started again."""

import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import DxtbxProcessError, ImageReadError, SettingsError
from ssx_processing.formats.dxtbx_child import ChildLostError, ChildRefusedError, DxtbxChild

ENVIRONMENT_VARIABLE = "SSX_DXTBX_PYTHON"
SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's python3-dials installs dxtbx for this one."""

TIMEOUT_VARIABLE = "SSX_DXTBX_TIMEOUT"
"""Seconds for any request, in place of ``TIME_LIMITS_S``."""
START_LIMIT_S = 120.0
"""dxtbx is some 200 files, which a busy network file system hands out slowly."""
TIME_LIMITS_S = {"open": 120.0, "count": 120.0, "read": 60.0}

ATTEMPTS = 2
"""How often a request is made of a process that dies or hangs over it."""
MAX_FAILURES = 3
"""Requests in a row that may end like this before more than these files is taken to be wrong."""

Allocate = Callable[[dict[str, Any]], NDArray[np.generic] | None]
"""From an answer to the array that is to be filled, or None if nothing is to be taken over."""

logger = logging.getLogger(__name__)


class DxtbxProcess:
    """One side process; started by the first request, and again if it has died.

    A process that dies or hangs over a request is replaced by another, of which the request is made
    once more. If that fails too, the file is taken to be at fault, up to three times in a row.
    """

    def __init__(self, start_limit_s: float = START_LIMIT_S) -> None:
        self._start_limit_s = start_limit_s
        self._lock = threading.Lock()
        self._child: DxtbxChild | None = None
        self._is_ready = False
        """Whether the child waits for a request; not so if one was broken off, by an interrupt or a loss."""
        self._python: str | None = None
        self._failures = 0

    def request(
        self, allocate: Allocate, **message: Any
    ) -> tuple[dict[str, Any], NDArray[np.generic] | None]:
        """Send a request; return the answer and the array that came with it.

        Raises
        ------
        ImageReadError
            dxtbx cannot be had, cannot read the file, or its process died or hung over it, twice.
        DxtbxProcessError
            The process does not start, or was lost over three requests in a row: the file is not to blame.
        """
        with self._lock:
            losses: list[ChildLostError] = []
            while len(losses) < ATTEMPTS:
                try:
                    answer, array = self._made(allocate, message)
                except ChildLostError as lost:
                    losses.append(lost)
                    logger.info("%s: the dxtbx process %s", message["path"], lost)
                except ImageReadError:
                    self._failures = 0
                    raise
                else:
                    self._failures = 0
                    return answer, array
            raise self._failure(message, losses[-1]) from losses[-1]

    @property
    def pid(self) -> int | None:
        """Process number; None if it does not run."""
        return self._child.pid if self._child else None

    def close(self) -> None:
        """End the side process; another request starts another, of the interpreter chosen by then."""
        with self._lock:
            child, self._child, self._python = self._child, None, None
        if child is not None:
            child.end()

    def leave(self) -> None:
        """Leave the side process to the process that this one was forked from."""
        if self._child is not None:
            self._child.leave()

    def _made(
        self, allocate: Allocate, message: dict[str, Any]
    ) -> tuple[dict[str, Any], NDArray[np.generic] | None]:
        """Make one attempt."""
        child = self._running(message["path"])
        self._is_ready = False
        answer = child.ask(message, _time_limit(message["op"]))
        self._is_ready = True
        if "error" in answer:
            raise ImageReadError(f"{message['path']}: {answer['error']}")
        array = allocate(answer)
        if array is not None:
            child.fill(array)
        return answer, array

    def _failure(self, message: dict[str, Any], reason: ChildLostError) -> ImageReadError | DxtbxProcessError:
        """Error for a request over which the process was lost too often."""
        self._failures += 1
        what = f"reading frame {message['index']}" if message["op"] == "read" else "opening the file"
        said = f"{message['path']}: the dxtbx process {reason} while {what}, {ATTEMPTS} times"
        if self._failures < MAX_FAILURES:
            return ImageReadError(f"{said}; the file may be damaged")
        self._failures = 0  # a chunk that is tried again has as many chances
        return DxtbxProcessError(
            f"{said}, as over {MAX_FAILURES - 1} requests before; "
            "look at the file system, the memory and the installation of DIALS, then try again"
        )

    def _running(self, path: str) -> DxtbxChild:
        """Side process, started if it does not run."""
        if self._child is not None:
            if self._is_ready and self._child.pid is not None:
                return self._child
            self._child.kill()
            self._child = None
        refusals = []
        for python in [self._python] if self._python else _candidates():
            try:
                child = self._started(python)
            except ChildRefusedError as refused:
                refusals.append(f"{python}: {refused}")
                continue
            self._child, self._python, self._is_ready = child, python, True
            return child
        raise ImageReadError(
            f"{path}: not NXmx, so it needs dxtbx, which was not found ({'; '.join(refusals)}); install "
            f"Debian's python3-dials or set {ENVIRONMENT_VARIABLE} to the python of a DIALS installation"
        )

    def _started(self, python: str) -> DxtbxChild:
        """Side process that runs ``python``."""
        losses: list[ChildLostError] = []
        while len(losses) < ATTEMPTS:
            try:
                return DxtbxChild(python, self._start_limit_s)
            except ChildLostError as lost:
                losses.append(lost)
                logger.info("%s: %s when importing dxtbx", python, lost)
        raise DxtbxProcessError(
            f"{python}: {losses[-1]} when importing dxtbx, {ATTEMPTS} times; look at the file system, "
            "the memory and the installation of DIALS, then try again"
        ) from losses[-1]


def _time_limit(operation: str) -> float:
    """Seconds that a request may take."""
    chosen = os.environ.get(TIMEOUT_VARIABLE)
    if not chosen:
        return TIME_LIMITS_S[operation]
    try:
        return float(chosen)
    except ValueError:
        raise SettingsError(f"{TIMEOUT_VARIABLE} is {chosen!r}, expected a number of seconds") from None


def _candidates() -> list[str]:
    """Interpreters that may have dxtbx, the site's choice alone if it made one."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return [chosen]
    own = [sys.executable] if importlib.util.find_spec("dxtbx") else []
    return [*own, SYSTEM_PYTHON]
