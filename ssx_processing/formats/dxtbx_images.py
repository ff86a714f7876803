"""Frames, mask and models of one image file, as dxtbx has them.

Runs in the Python that has dxtbx, which may be older than ours, with another numpy: nothing of
ssx_processing is imported here but ``file_completeness``, which is like this.

Panels are stacked below each other into one image, in dxtbx's order.
"""

import bz2
import gzip
import io
import shutil
import tempfile
import traceback
from pathlib import Path

if __package__:
    from ssx_processing.formats.file_completeness import NotReadableError, check_complete
else:  # beside the script dxtbx_server.py, started as such
    from file_completeness import NotReadableError, check_complete  # pyright: ignore[reportMissingImports]

_OPENERS = {".bz2": bz2.open, ".gz": gzip.open}


class FormatClassError(NotReadableError):
    """A format class of dxtbx knows the file, but fails over it."""


class Images:
    """Frames of one file: dxtbx's image set, with the last frame and the mask."""

    def __init__(self, path, needs_models=True):
        self.cached = (-1, [])
        self.needs_models = needs_models
        source = Path(path)
        if source.suffix in _OPENERS:
            self._open_copy(source, source.stem, _OPENERS[source.suffix])
            return
        try:
            self._open(path)
        except FormatClassError:
            if source.stem[-1:].isdigit():
                raise
            self._open_copy(source, source.name, open)

    def _open(self, path):
        """Open, read the first frame, the models and the mask."""
        check_complete(path)
        forget_contents()
        self.image_set = open_image_set(path, self.needs_models)
        self.n_frames = len(self.image_set)
        self.detector = self.beam = None
        self.geometry_error = "dxtbx finds no detector or no beam in it"
        if self.n_frames == 0:
            return
        try:
            self.detector, self.beam = self.image_set.get_detector(0), self.image_set.get_beam(0)
        except Exception as error:  # dxtbx and its formats raise anything
            self.geometry_error = "dxtbx finds no beam or detector in it: " + in_one_line(error)
        self.bad = bad_panels(self)

    def _open_copy(self, source, name, opener):
        """Open a plain copy: dxtbx decompresses repeatedly, and wants names to end in a number."""
        name = Path(name)
        number = "" if name.stem[-1:].isdigit() else "_00001"
        with tempfile.TemporaryDirectory(prefix="ssx-dxtbx-") as folder:
            copy = Path(folder) / f"{name.stem}{number}{name.suffix}"
            with opener(str(source), "rb") as packed, copy.open("wb") as plain:
                try:
                    shutil.copyfileobj(packed, plain, 1 << 20)
                except EOFError as error:
                    raise NotReadableError(
                        "truncated: its compressed data end too soon; is it still being copied?"
                    ) from error
                except Exception as error:  # zlib and bz2 have several
                    raise NotReadableError(f"damaged: cannot be decompressed ({error})") from error
            self._open(str(copy))
        if self.n_frames > 1:
            raise NotReadableError(f"{self.n_frames} frames: decompress it, and let its name end in a number")

    def panels(self, index):
        """Pixels of a frame, one array for each panel."""
        if self.cached[0] != index:
            try:
                raw = self.image_set.get_raw_data(index)
            except Exception as error:  # dxtbx and its formats raise anything
                name = self.image_set.get_format_class().__name__
                raise FormatClassError(
                    f"{name} cannot read frame {index}: {in_one_line(error)}{advice(name)}"
                ) from error
            raw = raw if isinstance(raw, tuple) else (raw,)
            self.cached = (index, [panel.as_numpy_array() for panel in raw])
        return self.cached[1]

    def geometry(self):
        """Return the models of the first frame as the parent wants them; None if there are none."""
        if self.detector is None or self.beam is None:
            return None
        starts = first_rows(self.panels(0))
        sensor = self.detector[0]
        geometry = {
            "panels": [
                describe_panel(panel, start) for panel, start in zip(self.detector, starts, strict=True)
            ],
            "image_shape": image_shape(self.panels(0)),
            "sensor_thickness_mm": sensor.get_thickness(),
            "sensor_absorption_per_mm": sensor.get_mu(),
        }
        geometry.update(describe_beam(self.beam))
        return geometry

    def limits(self):
        """First value that is no count for its height, lowest value that is one; infinite if unknown."""
        if self.detector is None:
            return float("inf"), float("-inf")
        upper = min(panel.get_trusted_range()[1] for panel in self.detector)
        lower = max(lowest_count(panel) for panel in self.detector)
        return upper + 1 if upper_limit_is_valid() else upper, lower


def in_one_line(error):
    """First line of an error of dxtbx, or of the code that failed if it says nothing, and its kind."""
    lines = str(error).strip().splitlines()
    if not lines:
        lines = [call.line for call in traceback.extract_tb(error.__traceback__)[-1:]] or ["no reason given"]
    return f"{lines[0]} ({type(error).__name__} in dxtbx)"


def advice(name):
    """What to do about a file that a format class of this name fails over."""
    if not name.startswith("FormatHDF5"):
        return ""
    return "; a CrystFEL geometry (--geometry FILE.geom) can say where its pixels are"


def forget_contents():
    """Let dxtbx forget the content of the last file: a file of the same name may have another by now."""
    from dxtbx.format.Format import Format  # pyright: ignore[reportMissingImports]

    if hasattr(Format, "get_cache_controller"):
        Format.get_cache_controller().check("", io.BytesIO)


def open_image_set(path, needs_models):
    """Open an image file with the format class that knows it; beam and detector may fail if not needed."""
    from dxtbx.format.Registry import get_format_class_for_file  # pyright: ignore[reportMissingImports]

    format_class = get_format_class_for_file(path)
    if format_class is None:
        raise NotReadableError("no format known to dxtbx")
    name = format_class.__name__
    if name == "FormatHDF5":  # the base of the classes for HDF5 files, none of which knew it
        raise NotReadableError(f"no format known to dxtbx (it only sees that it is HDF5){advice(name)}")
    try:
        return format_class.get_imageset([path], as_imageset=True)
    except Exception as error:  # dxtbx and its formats raise anything
        if isinstance(error, TypeError) and "abstract" in str(error):
            raise NotReadableError(f"no format known to dxtbx (it only sees {name})") from error
        reason = in_one_line(error)
    if not needs_models:
        try:
            return with_optional_models(format_class).get_imageset([path], as_imageset=True)
        except Exception as error:  # as above
            reason = in_one_line(error)
    raise FormatClassError(f"{name} cannot read it: {reason}{advice(name)}")


def with_optional_models(format_class):
    """Return the same format class, with no model where it fails to make one."""

    def optional(name):
        def model(self, *arguments):
            try:
                return getattr(format_class, name)(self, *arguments)
            except Exception:  # dxtbx and its formats raise anything
                return None

        return model

    name = format_class.__name__
    models = {model: optional(model) for model in ("_beam", "_detector", "_goniometer", "_scan")}
    globals()[name] = type(name, (format_class,), models)  # dxtbx pickles it, so it must be found
    return globals()[name]


def image_shape(panels):
    """Rows and columns of the image that holds all panels below each other."""
    return [sum(panel.shape[0] for panel in panels), max(panel.shape[1] for panel in panels)]


def first_rows(panels):
    """First row of each panel in that image."""
    rows = [0]
    for panel in panels[:-1]:
        rows.append(rows[-1] + panel.shape[0])
    return rows


def stack(panels, image, fill):
    """Put the panels into an image of that shape, and ``fill`` beside them."""
    rows, columns = 0, image.shape[1]
    for panel in panels:
        part = image[rows : rows + panel.shape[0]]
        part[:, : panel.shape[1]] = panel
        if panel.shape[1] < columns:
            part[:, panel.shape[1] :] = fill
        rows += panel.shape[0]


def pixel_type(panels):
    """Type, of those that the kernels know, that holds the pixels."""
    return "<f4" if panels[0].dtype == "float64" else panels[0].dtype.str


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


def lowest_count(panel):
    """Lowest value that is a count."""
    low = panel.get_trusted_range()[0]
    return 0.0 if -1 <= low <= 0 else low  # whether -1 itself is trusted differs by version


def bad_panels(images):
    """Mask of each panel, true where bad: gaps, dead pixels, masks of the format."""
    import numpy as np

    bad = [np.zeros(values.shape, bool) for values in images.panels(0)]
    if images.detector is not None:
        for mask, panel, values in zip(bad, images.detector, images.panels(0), strict=True):
            mask |= values < lowest_count(panel)
            for fast_0, slow_0, fast_1, slow_1 in panel.get_mask():
                mask[max(slow_0, 0) : slow_1, max(fast_0, 0) : fast_1] = True
    static = format_mask(images.image_set)
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
