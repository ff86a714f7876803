"""What Ctrl-C and SIGTERM do to a command."""

import os
import signal
import threading
from types import FrameType

MESSAGE = "ssx: interrupted; what is finished is kept, run the same command to go on"
SHOW_CURSOR = "\x1b[?25h"
"""A progress bar hides it."""


def end_when_interrupted() -> None:
    """From now on an interrupted process says so and is gone; only a main thread can arrange that."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end_at_once)
        signal.signal(signal.SIGTERM, _end_at_once)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Nothing is lost, and workers and Prefect's embedded server end with this process.

    An exception in its place would be caught by some library, or come while a module is imported.
    """
    cursor = SHOW_CURSOR if os.isatty(2) else ""
    os.write(2, f"{cursor}\n{MESSAGE}\n".encode())
    os._exit(128 + number)
