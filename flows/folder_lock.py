"""One processing of a folder at a time."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ssx_processing.errors import SsxError

LOCK = ".lock"


class BusyError(SsxError):
    """Another process works in this folder."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder for the block; the lock ends with the process, however that ends.

    Raises
    ------
    BusyError
        Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        _take(file, fcntl.LOCK_EX, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def check_free(folder: Path) -> None:
    """Look whether somebody holds the folder; makes nothing there.

    Raises
    ------
    BusyError
        Another process holds it.
    """
    path = folder / LOCK
    if path.is_file():
        with path.open() as file:
            _take(file, fcntl.LOCK_SH, folder)


def _take(file: IO[str], kind: int, folder: Path) -> None:
    """Lock the file; tried for a moment, for ``check_free`` of another process holds it as long."""
    stop = time.monotonic() + 0.2
    while True:
        try:
            return fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > stop:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise BusyError(f"{folder} is being processed by {holder}; wait for it, or end it") from error
        time.sleep(0.02)
