"""The side process that runs dxtbx: found, started, shared by all readers, ended with us."""

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError

ENVIRONMENT_VARIABLE = "SSX_DXTBX_PYTHON"
SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's python3-dials installs dxtbx for this one."""

_SERVER = Path(__file__).with_name("dxtbx_server.py")


class DxtbxProcess:
    """One side process; started by the first request, and again if it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._python: str | None = None
        self._array_file = _anonymous_file()

    def request(
        self, allocate: Callable[[dict[str, Any]], NDArray[np.generic] | None], **message: Any
    ) -> tuple[dict[str, Any], NDArray[np.generic] | None]:
        """Send a request; return the answer and the array that came with it.

        Parameters
        ----------
        allocate
            From the answer to the array to fill, or None if nothing is to be taken over.

        Raises
        ------
        ImageReadError
            dxtbx cannot be had, cannot read the file, or its process died over it.
        """
        with self._lock:
            answer = self._exchange(self._running(message["path"]), message)
            if "error" in answer:
                raise ImageReadError(f"{message['path']}: {answer['error']}")
            array = allocate(answer)
            if array is not None:
                self._receive(array)
            return answer, array

    @property
    def pid(self) -> int | None:
        """Process number; None if it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def close(self) -> None:
        """End the side process for good."""
        with self._lock:
            process = self._process
            self._forget()
            self._array_file.close()
        if process is None:
            return
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _forget(self) -> None:
        """Close the pipes, on which the process ends if it has not."""
        if self._process is not None:
            _close_pipes(self._process)
            self._process = None

    def _exchange(self, process: subprocess.Popen[bytes], message: dict[str, Any]) -> dict[str, Any]:
        """One line there, one line back."""
        assert process.stdin is not None  # noqa: S101 - a pipe
        assert process.stdout is not None  # noqa: S101 - a pipe
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            status = process.wait()
            self._forget()
            raise ImageReadError(
                f"{message['path']}: the dxtbx process died while reading it (exit status {status}); "
                "the file may be damaged"
            )
        return json.loads(line)

    def _receive(self, array: NDArray[np.generic]) -> None:
        """Fill ``array`` from the start of the shared file."""
        left = array.reshape(-1).view(np.uint8)
        position = 0
        while position < len(left):
            n_bytes = os.preadv(self._array_file.fileno(), [left[position:].data], position)
            if n_bytes == 0:
                raise ImageReadError(f"the dxtbx process handed over {position} of {len(left)} bytes")
            position += n_bytes

    def _running(self, path: str) -> subprocess.Popen[bytes]:
        """Side process, started if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._forget()
        refusals = []
        for python in [self._python] if self._python else _candidates():
            try:
                process, hello = self._start(python)
            except OSError as error:
                refusals.append(f"{python}: {error.strerror}")
                continue
            if "error" not in hello:
                self._process, self._python = process, python
                return process
            refusals.append(f"{python}: {hello['error']}")
            _close_pipes(process)
            process.wait()
        raise ImageReadError(
            f"{path}: not NXmx, so it needs dxtbx, which was not found ({'; '.join(refusals)}); install "
            f"Debian's python3-dials or set {ENVIRONMENT_VARIABLE} to the python of a DIALS installation"
        )

    def _start(self, python: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        """Start the server script under ``python``; its first line says whether it has dxtbx."""
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        # Debian has no HDF5 filters for its h5py; ours load into any HDF5
        environment.setdefault("HDF5_PLUGIN_PATH", hdf5plugin.PLUGIN_PATH)
        process = subprocess.Popen(  # noqa: S603 - the site chose this interpreter
            [python, str(_SERVER), str(self._array_file.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._array_file.fileno()],
            env=environment,
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        line = process.stdout.readline()
        return process, json.loads(line) if line else {"error": "ends at once"}


def _candidates() -> list[str]:
    """Interpreters that may have dxtbx, the site's choice alone if it made one."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return [chosen]
    own = [sys.executable] if importlib.util.find_spec("dxtbx") else []
    return [*own, SYSTEM_PYTHON]


def _anonymous_file() -> Any:
    """Return a file without a name, in memory where the system can: nothing is left behind."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("ssx-dxtbx"), "w+b")
    return tempfile.TemporaryFile()


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close both pipes, also those of a process that died over an unread request."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


@cache
def shared_process() -> DxtbxProcess:
    """Return the side process of this process, which serves all its readers."""
    process = DxtbxProcess()
    atexit.register(process.close)
    return process


_inherited: list[DxtbxProcess] = []


def _forget_inherited() -> None:
    """Leave the parent's side process to the parent: a forked worker starts its own."""
    if shared_process.cache_info().currsize:
        process = shared_process()
        shared_process.cache_clear()
        atexit.unregister(process.close)
        _inherited.append(process)  # kept, so that its Popen is not finalised here


os.register_at_fork(after_in_child=_forget_inherited)
