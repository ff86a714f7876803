"""Prefect's embedded server ends with the process that needed it, also if that is killed."""

import os
import subprocess
import sys
from functools import cache

from prefect.settings import PREFECT_API_URL

from flows.interruption import end_when_interrupted

GUARD = "import os, signal, sys; sys.stdin.read(); os.kill(int(sys.argv[1]), signal.SIGTERM)"


def start_embedded_server() -> None:
    """Start the embedded server unless there is another; Prefect would start the same one, unguarded.

    Prefect stops it at exit, which SIGKILL leaves out.
    """
    if PREFECT_API_URL.value() is None:
        _start()


@cache
def _start() -> subprocess.Popen[bytes]:
    from prefect.server.api.server import SubprocessASGIServer  # the whole server: 3 s, where it is needed

    # Ctrl-C reaches this server too; Prefect would go on for minutes trying to tell it
    end_when_interrupted()
    server = SubprocessASGIServer()
    server.start()
    if server.server_process is None:
        raise RuntimeError("Prefect's embedded server did not start")
    # The guard reads a pipe that only this process writes to: at its end this process has ended.
    # A session of its own keeps Ctrl-C from ending the guard before the server.
    return subprocess.Popen(  # noqa: S603  our own code
        [sys.executable, "-S", "-c", GUARD, str(server.server_process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=os.sep,
    )
