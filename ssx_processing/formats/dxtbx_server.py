"""Answers requests for images with dxtbx; a script for the Python that has dxtbx, or in our own process.

It stands alone: dxtbx may live in a Python with another numpy, so nothing of ssx_processing is
imported but the two files beside it that are like it. As a script it gets one JSON object a line on
stdin from its parent (``dxtbx_child.py``) and answers each with one on stdout. Arrays are left in the
file whose descriptor is the first argument, from its start. It ends when stdin is closed or its
parent has died.

* ``{"op": "open", "path": P}`` answers n_frames, shape, dtype, saturation, underload and geometry
  (null, with ``geometry_error``, where dxtbx finds none), and leaves the mask (uint8, 1 = bad).
* ``{"op": "count", "path": P}`` looks at the file again and answers n_frames.
* ``{"op": "read", "path": P, "index": I}`` leaves the pixels of a frame and answers shape and dtype.

``"needs_models": false`` in any of them: the file need not have a beam and a detector.
"""

import json
import mmap
import os
import sys
import threading
import time
from collections import OrderedDict

if __package__:
    from ssx_processing.formats.dxtbx_images import (
        Images,
        NotReadableError,
        image_shape,
        in_one_line,
        pixel_type,
        stack,
    )
else:  # started as a script
    from dxtbx_images import (  # pyright: ignore[reportMissingImports]
        Images,
        NotReadableError,
        image_shape,
        in_one_line,
        pixel_type,
        stack,
    )

MAX_OPEN = 4
"""Files that are kept open."""


class Server:
    """Answers requests; keeps a few files open."""

    def __init__(self, room):
        """``room(shape, dtype)`` gives the array into which pixels or a mask are to be put."""
        self.room = room
        self.images = OrderedDict()

    def opened(self, path, needs_models):
        """Images of ``path``, opened if they are not."""
        key = (path, needs_models)
        if key not in self.images:
            self.images[key] = Images(path, needs_models)
            while len(self.images) > MAX_OPEN:
                self.images.popitem(last=False)
        self.images.move_to_end(key)
        return self.images[key]

    def opened_again(self, path, needs_models):
        """Images of ``path`` as it is now."""
        self.images.pop((path, needs_models), None)
        return self.opened(path, needs_models)

    def count(self, path, needs_models=True):
        """Look at a file again and say how many frames it has."""
        return {"n_frames": self.opened_again(path, needs_models).n_frames}

    def open(self, path, needs_models=True):
        """Describe a file."""
        images = self.opened_again(path, needs_models)
        if images.n_frames == 0:
            return {"n_frames": 0}
        panels = images.panels(0)
        shape = image_shape(panels)
        stack(images.bad, self.room(shape, "|u1"), 1)
        saturation, underload = images.limits()
        return {
            "n_frames": images.n_frames,
            "shape": shape,
            "dtype": pixel_type(panels),
            "saturation": saturation,
            "underload": underload,
            "geometry": images.geometry(),
            "geometry_error": images.geometry_error,
        }

    def read(self, path, index, needs_models=True):
        """Hand over the pixels of a frame."""
        panels = self.opened(path, needs_models).panels(index)
        shape, dtype = image_shape(panels), pixel_type(panels)
        stack(panels, self.room(shape, dtype), 0)
        return {"shape": shape, "dtype": dtype}

    def answer(self, request):
        """Answer of one request; an error of any kind is an answer too."""
        try:
            request = dict(request)
            operation = request.pop("op")
            if operation not in ("open", "count", "read"):
                raise NotReadableError(f"no operation {operation!r}")
            return getattr(self, operation)(**request)
        except NotReadableError as error:
            return {"error": str(error)}
        except Exception as error:  # dxtbx and its formats raise anything
            return {"error": in_one_line(error)}


class SharedFile:
    """The start of a file that both processes have mapped into their memory; it only grows."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.mapped = None

    def room(self, shape, dtype):
        """Array at the start of the file."""
        import numpy as np

        n_pixels = shape[0] * shape[1]
        n_bytes = n_pixels * np.dtype(dtype).itemsize
        if self.mapped is None or len(self.mapped) < n_bytes:
            os.ftruncate(self.descriptor, n_bytes)
            self.mapped = mmap.mmap(self.descriptor, n_bytes)
        return np.frombuffer(self.mapped, dtype, n_pixels).reshape(shape)


def end_with_parent():
    """End this process soon after its parent has died without closing stdin."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main():
    """Answer requests until stdin ends."""
    end_with_parent()
    del sys.path[0]  # this script's folder, whose modules must not shadow others
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what dxtbx prints must not mix with the answers
    try:
        import dxtbx  # pyright: ignore[reportMissingImports]

        hello = {"dxtbx": dxtbx.__file__}
    except ImportError as error:
        hello = {"error": str(error)}
    server = Server(SharedFile(int(sys.argv[1])).room)
    answers.write(json.dumps(hello) + "\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(server.answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
