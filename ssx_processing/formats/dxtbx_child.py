"""One run of the side process: started, asked with a time limit, killed."""

import json
import mmap
import os
import select
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np
from numpy.typing import NDArray

_SERVER = Path(__file__).with_name("dxtbx_server.py")
_LONGEST_DEATH_S = 2.0
"""A process that hangs in the kernel, on a lost file system, may take for ever to be killed."""


class ChildLostError(Exception):
    """The process died or hung; the message says which. It has been killed, or left to die."""


class ChildRefusedError(Exception):
    """The interpreter cannot be started, or has no dxtbx."""


class DxtbxChild:
    """A running server script, and the memory that it shares with us."""

    def __init__(self, python: str, start_limit_s: float) -> None:
        """Start the server script under ``python`` and wait until it has imported dxtbx.

        Raises
        ------
        ChildRefusedError
            ``python`` does not run, or has no dxtbx.
        ChildLostError
            It was killed, or not ready within the limit.
        """
        self._file = _anonymous_file()
        self._mapped: mmap.mmap | None = None
        self._unread = b""
        try:
            self._process = self._start(python)
        except OSError as error:
            self._file.close()
            raise ChildRefusedError(error.strerror) from error
        try:
            hello = self._answer(start_limit_s)
        except ChildLostError as lost:
            if (self._process.returncode or -1) > 0:
                raise ChildRefusedError(str(lost)) from lost
            raise
        if "error" in hello:
            self.end()
            raise ChildRefusedError(hello["error"])

    @property
    def pid(self) -> int | None:
        """Process number; None if it does not run."""
        return self._process.pid if self._process.poll() is None else None

    def ask(self, message: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """One line there, one line back.

        Raises
        ------
        ChildLostError
            It died, or gave no answer within the limit.
        """
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        try:
            # never blocks: the pipe is empty, since every earlier request was answered, and holds 64 KiB
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            raise self._lost() from None
        return self._answer(limit_s)

    def fill(self, array: NDArray[np.generic]) -> None:
        """Copy from the start of the shared memory into ``array``, which is contiguous."""
        if self._mapped is None or len(self._mapped) < array.nbytes:
            size = os.fstat(self._file.fileno()).st_size
            if size < array.nbytes:
                self.kill()
                raise ChildLostError(f"handed over {size} of {array.nbytes} bytes")
            self._mapped = mmap.mmap(self._file.fileno(), size, prot=mmap.PROT_READ)
        np.copyto(array.reshape(-1).view(np.uint8), np.frombuffer(self._mapped, np.uint8, array.nbytes))

    def end(self) -> None:
        """Close the pipe, on which the process ends; kill it if it does not."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LONGEST_DEATH_S)
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()  # also ends a stopped process
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LONGEST_DEATH_S)
        self.leave()

    def leave(self) -> None:
        """Let go of the process, which goes on if it belongs to another process too."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._mapped = None
        self._file.close()

    def _answer(self, limit_s: float) -> dict[str, Any]:
        """Wait for a line."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self.kill()
                raise ChildLostError(f"gave no answer within {limit_s:g} s and was killed")
            received = os.read(descriptor, 1 << 20)
            if not received:
                raise self._lost()
            self._unread += received
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def _lost(self) -> ChildLostError:
        """Error for a process whose pipe is closed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LONGEST_DEATH_S)
        status = self._process.poll()
        self.kill()
        if status is not None and status < 0:
            return ChildLostError(f"died ({signal.Signals(-status).name})")
        return ChildLostError(f"ended with status {status}")

    def _start(self, python: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        # Debian has no HDF5 filters for its h5py; ours load into any HDF5
        environment.setdefault("HDF5_PLUGIN_PATH", hdf5plugin.PLUGIN_PATH)
        environment.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")  # we only read, also what is being written
        return subprocess.Popen(  # noqa: S603 - the site chose this interpreter
            [python, str(_SERVER), str(self._file.fileno())],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._file.fileno()],
            env=environment,
        )


def _anonymous_file() -> Any:
    """Return a file without a name, in memory where the system can: nothing is left behind."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("ssx-dxtbx"), "w+b")
    return tempfile.TemporaryFile()
