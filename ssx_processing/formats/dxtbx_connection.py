"""The connection to dxtbx that all readers of this process share: to a side process, or in our own."""

import atexit
import os
import threading
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import SettingsError
from ssx_processing.formats.dxtbx_in_process import DxtbxInProcess
from ssx_processing.formats.dxtbx_process import Allocate, DxtbxProcess

MODE_VARIABLE = "SSX_DXTBX"
SIDE_PROCESS = "side-process"
IN_PROCESS = "in-process"


class DxtbxConnection(Protocol):
    """Whatever answers requests with dxtbx; the requests are those of ``dxtbx_server``."""

    def request(
        self, allocate: Allocate, **message: Any
    ) -> tuple[dict[str, Any], NDArray[np.generic] | None]:
        """Return the answer, and the array that came with it, which ``allocate`` made from the answer."""
        ...

    def close(self) -> None:
        """End it."""
        ...

    def leave(self) -> None:
        """Let go of it without ending it, in a process that was forked."""
        ...


_KINDS = {SIDE_PROCESS: DxtbxProcess, IN_PROCESS: DxtbxInProcess}
_connections: dict[str, DxtbxConnection] = {}
_making = threading.Lock()
_inherited: list[DxtbxConnection] = []


def shared_connection() -> DxtbxConnection:
    """Return the connection of this process, which serves all its readers in all its threads.

    A side process unless ``SSX_DXTBX`` is ``in-process``.

    Raises
    ------
    SettingsError
        ``SSX_DXTBX`` is neither.
    """
    kind = os.environ.get(MODE_VARIABLE) or SIDE_PROCESS
    if kind not in _KINDS:
        raise SettingsError(f"{MODE_VARIABLE} is {kind!r}, expected {SIDE_PROCESS} or {IN_PROCESS}")
    with _making:
        if kind not in _connections:
            connection = _connections[kind] = _KINDS[kind]()
            atexit.register(connection.close)
        return _connections[kind]


def _forget_inherited() -> None:
    """Leave what the parent has to the parent: a forked process makes its own."""
    global _making
    _making = threading.Lock()  # a thread of the parent may have held the other
    for connection in _connections.values():
        connection.leave()
        atexit.unregister(connection.close)
        _inherited.append(connection)  # kept, so that its Popen is not finalised here
    _connections.clear()


os.register_at_fork(after_in_child=_forget_inherited)
