"""Side process that reads images with dxtbx; run as a script by a Python that has dxtbx.

It stands alone: dxtbx may live in a Python with another numpy, so nothing of ssx_processing is
imported here. The parent (``dxtbx_process.py``) sends one JSON object a line on stdin and gets one
a line on stdout. Arrays go through the file whose descriptor is the first argument, from its
start. The process ends when stdin is closed or its parent has died.

* ``{"op": "open", "path": P}`` answers n_frames, shape, dtype, saturation and geometry, and leaves
  the mask (uint8, 1 = bad) in the file.
* ``{"op": "read", "path": P, "index": I}`` leaves the pixels of a frame there and answers shape
  and dtype.

Panels are stacked below each other into one image, in dxtbx's order.
"""

import bz2
import gzip
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path

MAX_OPEN = 4
_OPENERS = {".bz2": bz2.open, ".gz": gzip.open}


class NotReadableError(ValueError):
    """Raised by this script, with a message that says it all."""


class Images:
    """Frames of one file: dxtbx's image set, with the last frame and the mask."""

    def __init__(self, path):
        self.cached = (-1, [])
        source = Path(path)
        if source.suffix in _OPENERS:
            self._open_copy(source, source.stem, _OPENERS[source.suffix])
            return
        try:
            self._open(path)
        except Exception as error:
            if isinstance(error, NotReadableError) or source.stem[-1:].isdigit():
                raise
            self._open_copy(source, source.name, open)

    def _open(self, path):
        """Open, read the first frame and the mask."""
        check_complete(path)
        self.image_set = open_image_set(path)
        self.n_frames = len(self.image_set)
        self.bad = bad_panels(self) if self.n_frames else []

    def _open_copy(self, source, name, opener):
        """Open a plain copy: dxtbx decompresses repeatedly, and wants names to end in a number."""
        name = Path(name)
        number = "" if name.stem[-1:].isdigit() else "_00001"
        with tempfile.TemporaryDirectory(prefix="ssx-dxtbx-") as folder:
            copy = Path(folder) / f"{name.stem}{number}{name.suffix}"
            with opener(str(source), "rb") as packed, copy.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 1 << 20)
            self._open(str(copy))
        if self.n_frames > 1:
            raise NotReadableError(f"{self.n_frames} frames: decompress it, and let its name end in a number")

    def panels(self, index):
        """Pixels of a frame, one array for each panel."""
        if self.cached[0] != index:
            raw = self.image_set.get_raw_data(index)
            raw = raw if isinstance(raw, tuple) else (raw,)
            self.cached = (index, [as_pixels(panel.as_numpy_array()) for panel in raw])
        return self.cached[1]


def open_image_set(path):
    """Open an image file with the format class that knows it."""
    from dxtbx.format.Registry import get_format_class_for_file  # pyright: ignore[reportMissingImports]

    format_class = get_format_class_for_file(path)
    if format_class is None:
        raise NotReadableError("no format known to dxtbx")
    try:
        return format_class.get_imageset([path], as_imageset=True)
    except TypeError as error:
        if "abstract" in str(error):
            name = format_class.__name__
            raise NotReadableError(f"no format known to dxtbx (it only sees {name})") from error
        raise


def check_complete(path):
    """Raise if a CBF is shorter than its header announces; dxtbx may not notice."""
    if not path.endswith(".cbf"):
        return
    with Path(path).open("rb") as file:
        content = file.read(1 << 16)
    start = content.find(b"\x0c\x1a\x04\xd5")
    key = content.find(b"X-Binary-Size:")
    if start < 0 or key < 0:
        raise NotReadableError("truncated: it has no binary section")
    expected = int(content[key + 14 : content.index(b"\n", key)])
    found = Path(path).stat().st_size - start - 4
    if found < expected:
        raise NotReadableError(f"truncated: {found} bytes of pixels, its header announces {expected}")


def as_pixels(array):
    """Same values in one of the types that the kernels know."""
    return array.astype("float32") if array.dtype == "float64" else array


def stack(arrays, fill):
    """One image with the arrays below each other, and the first row of each."""
    import numpy as np

    starts = [0]
    for array in arrays:
        starts.append(starts[-1] + array.shape[0])
    width = max(array.shape[1] for array in arrays)
    if len(arrays) == 1:
        return np.ascontiguousarray(arrays[0]), starts
    image = np.full((starts[-1], width), fill, arrays[0].dtype)
    for start, array in zip(starts[:-1], arrays, strict=True):
        image[start : start + array.shape[0], : array.shape[1]] = array
    return image, starts


def upper_limit_is_valid():
    """Whether this dxtbx counts the upper end of the trusted range as trusted."""
    from dxtbx.model import Panel  # pyright: ignore[reportMissingImports]
    from scitbx.array_family import flex  # pyright: ignore[reportMissingImports]

    panel = Panel()
    panel.set_image_size((1, 1))
    panel.set_trusted_range((0, 10))
    pixels = flex.double([10])
    pixels.reshape(flex.grid(1, 1))
    return bool(panel.get_trusted_range_mask(pixels)[0])


def bad_panels(images):
    """Mask of each panel, true where bad: gaps, dead pixels, masks of the format."""
    image_set, pixels = images.image_set, images.panels(0)
    detector = image_set.get_detector(0)
    bad = []
    for panel, values in zip(detector, pixels, strict=True):
        low = panel.get_trusted_range()[0]
        mask = values < (0 if -1 <= low <= 0 else low)  # whether -1 itself is trusted differs by version
        for fast_0, slow_0, fast_1, slow_1 in panel.get_mask():
            mask[max(slow_0, 0) : slow_1, max(fast_0, 0) : fast_1] = True
        bad.append(mask)
    static = format_mask(image_set)
    if static is not None:
        for mask, good in zip(bad, static, strict=True):
            mask |= ~good.as_numpy_array()
    return bad


def format_mask(image_set):
    """Static mask of the format class, flex.bool for each panel, true where good; or None."""
    instance = image_set.get_format_class().get_instance(image_set.paths()[0])
    mask = getattr(instance, "get_static_mask", lambda: None)()
    return mask if mask is None or isinstance(mask, tuple) else (mask,)


def describe_panel(panel, slow_start):
    """Panel as the parent's model wants it."""
    n_fast, n_slow = panel.get_image_size()
    return {
        "origin_mm": panel.get_origin(),
        "fast_axis": panel.get_fast_axis(),
        "slow_axis": panel.get_slow_axis(),
        "pixel_size_mm": panel.get_pixel_size(),
        "fast_start": 0,
        "slow_start": slow_start,
        "n_fast": n_fast,
        "n_slow": n_slow,
        "name": panel.get_name() or "0",
    }


def describe_beam(beam):
    """Wavelength, direction and share of the polarisation along x."""
    fraction, normal = beam.get_polarization_fraction(), beam.get_polarization_normal()
    towards_source = beam.get_sample_to_source_direction()
    return {
        "wavelength": beam.get_wavelength(),
        "beam_direction": [-component for component in towards_source],
        # dxtbx gives the share in the plane with this normal, so x belongs to a normal along y
        "polarisation_fraction": fraction * normal[1] ** 2 + (1 - fraction) * (1 - normal[1] ** 2),
    }


class Server:
    """Answers requests; keeps a few files open."""

    def __init__(self, array_file):
        self.array_file = array_file
        self.images = OrderedDict()

    def opened(self, path):
        """Images of ``path``, opened if they are not."""
        if path not in self.images:
            self.images[path] = Images(path)
            while len(self.images) > MAX_OPEN:
                self.images.popitem(last=False)
        self.images.move_to_end(path)
        return self.images[path]

    def open(self, path):
        """Describe a file."""
        self.images.pop(path, None)  # it may have changed since it was read last
        images = self.opened(path)
        if images.n_frames == 0:
            return {"n_frames": 0}
        image_set = images.image_set
        detector, beam = image_set.get_detector(0), image_set.get_beam(0)
        if detector is None or beam is None:
            raise NotReadableError("dxtbx finds no detector or no beam in it")
        image, starts = stack(images.panels(0), 0)
        bad, _ = stack(images.bad, True)
        self.send(bad.astype("uint8"))
        first = detector[0]
        geometry = {
            "panels": [
                describe_panel(panel, start) for panel, start in zip(detector, starts[:-1], strict=True)
            ],
            "image_shape": image.shape,
            "sensor_thickness_mm": first.get_thickness(),
            "sensor_absorption_per_mm": first.get_mu(),
        }
        geometry.update(describe_beam(beam))
        upper = min(panel.get_trusted_range()[1] for panel in detector)
        return {
            "n_frames": images.n_frames,
            "shape": image.shape,
            "dtype": image.dtype.str,
            "saturation": upper + 1 if upper_limit_is_valid() else upper,
            "geometry": geometry,
        }

    def read(self, path, index):
        """Hand over the pixels of a frame."""
        image, _ = stack(self.opened(path).panels(index), 0)
        self.send(image)
        return {"shape": image.shape, "dtype": image.dtype.str}

    def send(self, array):
        """Write an array to the start of the shared file."""
        left = memoryview(array).cast("B")
        position = 0
        while position < len(left):
            position += os.pwrite(self.array_file, left[position:], position)

    def answer(self, request):
        """Answer of one request; an error of any kind is an answer too."""
        try:
            operation = request.pop("op")
            if operation not in ("open", "read"):
                raise NotReadableError(f"no operation {operation!r}")
            return getattr(self, operation)(**request)
        except Exception as error:  # dxtbx and its formats raise anything
            if isinstance(error, NotReadableError):
                return {"error": str(error)}
            lines = str(error).strip().splitlines() or ["no reason given"]
            return {"error": f"{lines[0]} ({type(error).__name__} in dxtbx)"}


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
    server = Server(int(sys.argv[1]))
    answers.write(json.dumps(hello) + "\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(server.answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
