"""Which pixels and which values of an NXmx file or a FileWriter master are measurements."""

import math
import re
from collections.abc import Sequence

import h5py
import numpy as np
import nxmx
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError, ImageReadError
from ssx_processing.formats.hdf5_files import dataset_at
from ssx_processing.models import Panel

FIRST_CHANNEL = "threshold_1_channel"
"""Group of FileWriter 2 with the metadata of the first energy threshold."""

UNUSABLE_BITS = 0xFFFF
"""Bits of a pixel mask that rule a pixel out: NXmx keeps the upper two bytes for properties that do not."""


def bad_pixels(
    detector: h5py.Group | None, panels: Sequence[Panel], image_shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Pixels never to be used: masked, or outside all panels.

    Bits 0 to 15 of NXmx's masks rule a pixel out (0 gap, 1 dead, 2 under-responding, 3
    over-responding, 4 noisy, 6 part of a cluster of problematic pixels, 8 masked by the user, the
    others undefined). Bits 16 to 31 do not: they mark pixels with special properties, such as bit
    31, a pixel between readout chips whose value is interpolated. Whether the detector has applied
    the mask itself (``pixel_mask_applied``) makes no difference: it is applied here in any case.
    A mask with one plane for each frame rules out what is bad in any frame.

    Returns
    -------
    Shape (slow, fast), true where bad.

    Raises
    ------
    GeometryError
        A mask has another shape than the images, or holds no integers.
    ImageReadError
        A mask cannot be read.
    """
    bad = np.ones(image_shape, bool)
    for panel in panels:
        rows = slice(panel.slow_start, panel.slow_start + panel.n_slow)
        bad[rows, panel.fast_start : panel.fast_start + panel.n_fast] = False
    for dataset in pixel_masks(detector):
        if dataset.shape is not None and np.prod(dataset.shape) > 1:
            bad |= _unusable(dataset, image_shape)
    names = {panel.name: panel for panel in panels}
    for module in nxmx.find_class(detector, "NXdetector_module") if detector is not None else []:
        panel = names.get(str(module.name))
        if panel is not None and "pixel_mask" in module:
            rows = slice(panel.slow_start, panel.slow_start + panel.n_slow)
            columns = slice(panel.fast_start, panel.fast_start + panel.n_fast)
            shape = (panel.n_slow, panel.n_fast)
            bad[rows, columns] |= _unusable(dataset_at(module, "pixel_mask"), shape)
    return bad


def _unusable(dataset: h5py.Dataset, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels that a mask rules out; it may have axes for modules (stacked) and for frames."""
    if dataset.dtype.kind not in "iub":
        raise GeometryError(f"{dataset.name} holds {dataset.dtype}, expected the integers of a pixel mask")
    if dataset.chunks and not dataset.id.get_num_chunks():
        raise ImageReadError(f"{dataset.file.filename}: {dataset.name} was never written")
    for frame_axes in (0, 1):
        rows = math.prod(dataset.shape[frame_axes:-1]) if dataset.ndim >= frame_axes + 2 else 0
        if (rows, dataset.shape[-1]) == shape:
            break
    else:
        raise GeometryError(f"{dataset.name} has shape {dataset.shape}, the images have {shape}")
    bad = np.zeros(shape, bool)
    try:
        for frame in range(dataset.shape[0]) if frame_axes else [()]:
            mask = np.asarray(dataset[frame]).reshape(shape)
            bad |= mask.astype(np.uint32) & np.uint32(UNUSABLE_BITS) != 0
    except (OSError, RuntimeError, ValueError) as error:
        raise ImageReadError(f"{dataset.file.filename}: {dataset.name} cannot be read ({error})") from error
    return bad


def pixel_masks(detector: h5py.Group | None) -> list[h5py.Dataset]:
    """Datasets ``pixel_mask`` and ``pixel_mask_N``; DECTRIS's own only if there are none.

    FileWriter 2 has masks for each energy threshold; the first threshold is the one that is read.

    Raises
    ------
    ImageReadError
        A mask is a link to a missing file: processing without it would count dead pixels.
    """
    if detector is None:
        return []
    names = sorted(name for name in list[str](detector) if re.fullmatch(r"pixel_mask(_\d+)?", name))
    for name in (f"{FIRST_CHANNEL}/pixel_mask", "detectorSpecific/pixel_mask"):
        if not names and detector.get(name, getlink=True) is not None:
            names = [name]
    return [dataset_at(detector, name) for name in names]


def saturation(detector: h5py.Group | None, pixel_type: np.dtype) -> float:
    """Smallest raw value that is no longer a count; inf if unknown.

    DECTRIS marks gaps and dead pixels with the largest value of the image's bit depth, so that
    is a limit too. A pixel at NXmx's ``saturation_value`` itself is called saturated.
    """
    limits = [float(np.iinfo(pixel_type).max) if pixel_type.kind in "iu" else np.inf]
    if detector is None:
        return limits[0]
    bits = _number(detector, "bit_depth_image")
    if bits is not None and pixel_type.kind == "u" and 0 < bits < 8 * pixel_type.itemsize:
        limits.append(2.0**bits - 1)
    for name in (
        "saturation_value",
        f"{FIRST_CHANNEL}/saturation_value",
        "detectorSpecific/countrate_correction_count_cutoff",
        "detectorSpecific/detectorModule_000/countrate_correction_count_cutoff",
    ):
        value = _number(detector, name)
        if value is not None and value > 0:
            limits.append(value)
            break
    return min(limits)


def underload(detector: h5py.Group | None, pixel_type: np.dtype) -> float:
    """Smallest raw value that is a count; a pixel below it is none. -inf if unknown.

    NXmx's ``underload_value`` is itself valid. Where a file does not give one, the lowest value of a
    signed type is no count: Jungfrau software marks pixels so. Other negative values may be noise
    around 0, so they are left alone.
    """
    for name in ("underload_value", f"{FIRST_CHANNEL}/underload_value"):
        value = _number(detector, name) if detector is not None else None
        if value is not None and np.isfinite(value):
            return value
    return float(np.iinfo(pixel_type).min + 1) if pixel_type.kind == "i" else -np.inf


def _number(group: h5py.Group, name: str) -> float | None:
    """Scalar below ``group``; None if absent or no number.

    Raises
    ------
    ImageReadError
        It is a link that leads nowhere, or cannot be read.
    """
    if group.get(name, getlink=True) is None:
        return None
    dataset = dataset_at(group, name)
    if dataset.shape is None or not dataset.size or dataset.dtype.kind not in "iuf":
        return None
    try:
        return float(np.ravel(np.asarray(dataset[()]))[0])
    except (OSError, RuntimeError, ValueError) as error:
        raise ImageReadError(f"{dataset.file.filename}: {dataset.name} cannot be read ({error})") from error
