"""dxtbx in our own process: the server's code without the server."""

import importlib
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import ImageReadError
from ssx_processing.formats.dxtbx_process import Allocate
from ssx_processing.formats.dxtbx_server import Server


class DxtbxInProcess:
    """Answers the requests that ``DxtbxProcess`` does; a crash of dxtbx is ours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server = Server(self._room)
        self._array: NDArray[Any] = np.empty((0, 0))

    def request(
        self, allocate: Allocate, **message: Any
    ) -> tuple[dict[str, Any], NDArray[np.generic] | None]:
        """Answer a request; return the answer and the array that came with it.

        Raises
        ------
        ImageReadError
            dxtbx cannot be imported, or cannot read the file.
        """
        with self._lock:
            _require_dxtbx(message["path"])
            answer = self._server.answer(message)
            if "error" in answer:
                raise ImageReadError(f"{message['path']}: {answer['error']}")
            array = allocate(answer)
            if array is not None:
                np.copyto(array, self._array)
            return answer, array

    def close(self) -> None:
        """Close all files."""
        self._server.images.clear()

    def leave(self) -> None:
        """Leave nothing: files that a fork shares are opened again by a connection of its own."""

    def _room(self, shape: list[int], dtype: str) -> NDArray[Any]:
        """Array for the pixels of the next answer."""
        if self._array.shape != tuple(shape) or self._array.dtype != dtype:
            self._array = np.empty(shape, dtype)
        return self._array


def _require_dxtbx(path: str) -> None:
    """Raise if this Python cannot import dxtbx."""
    try:
        importlib.import_module("dxtbx")
    except ImportError as error:
        raise ImageReadError(
            f"{path}: needs dxtbx, which this Python cannot import ({error}); "
            "leave out SSX_DXTBX=in-process, so that another Python does"
        ) from error
