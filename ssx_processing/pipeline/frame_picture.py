"""A frame as a PNG, readable at a glance: pixels, spots, rings of resolution, and the numbers below.

Å is written A here: the font that comes with Pillow has no other.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ssx_processing.pipeline.frame_view import FrameView
from ssx_processing.pipeline.resolution_rings import (
    HEXAGONAL_ICE,
    ResolutionRing,
    direct_beam,
    resolution_ring,
    resolutions_in_view,
)

LARGEST_SIDE = 2000
"""A frame with more columns or rows is binned, by the maximum, so that no spot is lost."""
SMALLEST_SIDE = 900
"""A frame with fewer is enlarged by a whole number, so that the text beside it has room."""
BAD_COLOUR, SATURATED_COLOUR = (170, 196, 222), (230, 0, 170)
SPOT_COLOUR, RING_COLOUR, ICE_COLOUR, INK = (213, 94, 0), (0, 114, 178), (0, 158, 115), (31, 41, 51)
MARGIN, LINE, LETTERS = 14, 21, 15
"""Pixels of the text below the image: border, height of a line, height of its letters."""
MOST_LETTERS = 118
"""Of a line that fits below a small frame."""
Colour = tuple[int, int, int] | str


@dataclass(frozen=True)
class GreyScale:
    """Counts to darkness: linear over the background, then logarithmic."""

    white: float
    """Counts that are white."""
    softness: float
    """Counts above white up to which the scale is linear."""
    black: float
    """Counts that are black."""

    def darkness(self, counts: NDArray[np.floating]) -> NDArray[np.floating]:
        """0 for white, 1 for black."""
        top = math.asinh((self.black - self.white) / self.softness)
        return np.clip(np.arcsinh((counts - self.white) / self.softness) / top, 0.0, 1.0)


def grey_scale(view: FrameView) -> GreyScale:
    """A scale on which background is light grey and spots are dark.

    White is the lowest background less its noise, black what a good spot's highest pixel has.
    """
    gain, rings = view.settings.gain, view.rings
    if len(rings.mean) == 0:
        return GreyScale(0.0, gain, 10.0 * gain)
    white = max(float(np.percentile(rings.mean - 3.0 * rings.deviation, 5)), 0.0)
    softness = max(8.0 * float(np.median(rings.deviation)), gain)
    peaks = view.spots.peak_value
    top = float(np.percentile(peaks, 60)) if len(peaks) >= 5 else 0.0
    strong = 2.0 * float(np.percentile(rings.threshold, 90))
    return GreyScale(white, softness, max(top, strong, white + softness))


def write_picture(view: FrameView, path: Path, *, spots: bool = True, ice: bool = False) -> Path:
    """Write the frame as PNG.

    Parameters
    ----------
    spots
        Circle the spots.
    ice
        Draw where ordinary ice has its powder rings.
    """
    frame_picture(view, spots=spots, ice=ice).save(path, format="PNG", optimize=False, compress_level=6)
    return path


def frame_picture(view: FrameView, *, spots: bool = True, ice: bool = False) -> Image.Image:
    """The frame with rings and spots, and below it the numbers."""
    pixels, scale = _pixels(view)
    picture = Image.fromarray(pixels, "RGB")
    draw = ImageDraw.Draw(picture)
    _draw_rings(draw, view, scale, ice=ice)
    _draw_predictions(draw, view, scale)
    if spots:
        _draw_spots(draw, view, scale)
    lines = frame_lines(view, binned=round(1 / scale) if scale < 1 else 1)
    return _with_text(picture, lines, _key(view))


def _pixels(view: FrameView) -> tuple[NDArray[np.uint8], float]:
    """(rows, columns, 3) colours, and output pixels per detector pixel."""
    factor = -(-max(view.image.shape) // LARGEST_SIDE)
    image = np.where(view.is_bad, -np.inf, view.image).astype(np.float32)
    counts = binned(image, factor)
    bad, saturated = ~np.isfinite(counts), binned(view.is_saturated.astype(np.float32), factor) > 0
    levels = grey_scale(view)
    grey = (250 * (1 - levels.darkness(np.where(bad, 0, np.maximum(counts, 0))))).astype(np.uint8)
    colours = np.repeat(grey[:, :, None], 3, axis=2)
    colours[bad] = BAD_COLOUR
    colours[saturated] = SATURATED_COLOUR
    larger = max(1, round(SMALLEST_SIDE / max(colours.shape[:2])))
    return np.repeat(np.repeat(colours, larger, axis=0), larger, axis=1), larger / factor


def binned(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Largest pixel of each square of ``factor`` x ``factor``; the last ones may be incomplete.

    Examples
    --------
    >>> binned(np.array([[1, 2, 3], [4, 0, 9]], np.float32), 2)
    array([[4., 9.]], dtype=float32)
    """
    if factor == 1:
        return image
    rows, columns = (-n % factor for n in image.shape)
    filled = np.pad(image, ((0, rows), (0, columns)), constant_values=-np.inf)
    n_rows, n_columns = filled.shape
    return filled.reshape(n_rows // factor, factor, n_columns // factor, factor).max(axis=(1, 3))


def _draw_rings(draw: ImageDraw.ImageDraw, view: FrameView, scale: float, *, ice: bool) -> None:
    wanted = [(d, RING_COLOUR, f"{d:g} A") for d in resolutions_in_view(view.q_range)]
    wanted += [(d, ICE_COLOUR, "") for d in HEXAGONAL_ICE if ice]
    for d, colour, label in wanted:
        ring = resolution_ring(view.geometry, d)
        if ring is not None:
            _draw_ring(draw, ring, scale, colour, label)
    centre = direct_beam(view.geometry)
    if centre is not None:
        x, y = centre[0] * scale, centre[1] * scale
        draw.line([(x - 9, y), (x + 9, y)], fill=RING_COLOUR, width=2)
        draw.line([(x, y - 9), (x, y + 9)], fill=RING_COLOUR, width=2)


def _draw_ring(
    draw: ImageDraw.ImageDraw, ring: ResolutionRing, scale: float, colour: tuple[int, int, int], label: str
) -> None:
    for piece in ring.pieces:
        draw.line([(x, y) for x, y in (piece * scale).tolist()], fill=colour, width=1)
    if label:
        x, y = ring.label_at[0] * scale, ring.label_at[1] * scale
        font = ImageFont.load_default(size=LETTERS + 3)
        draw.text((x, y), label, fill=colour, font=font, anchor="mm", stroke_width=3, stroke_fill="white")


def _draw_spots(draw: ImageDraw.ImageDraw, view: FrameView, scale: float) -> None:
    """Circles a little larger than the spots, so that these stay visible."""
    radius = np.sqrt(view.spots.n_pixels / np.pi) * scale + max(4.0 * scale, 5.0)
    places = np.column_stack([view.spots.x_px, view.spots.y_px]) * scale
    seen = view.lattices
    owner = seen.spot_lattice.tolist() if seen is not None else [-1] * len(places)
    for (x, y), r, n in zip(places.tolist(), radius.tolist(), owner, strict=True):
        colour = seen.lattices[n].colour if seen is not None and n >= 0 else SPOT_COLOUR
        draw.ellipse([(x - r, y - r), (x + r, y + r)], outline=colour, width=2)


def _draw_predictions(draw: ImageDraw.ImageDraw, view: FrameView, scale: float) -> None:
    """Small squares, inside of the circles around spots."""
    half = max(2.5 * scale, 3.0)
    for lattice in view.found:
        for x, y in (np.column_stack([lattice.x_px, lattice.y_px]) * scale).tolist():
            draw.rectangle([(x - half, y - half), (x + half, y + half)], outline=lattice.colour, width=1)


def _key(view: FrameView) -> list[tuple[Colour, str]]:
    """What the colours stand for."""
    spot = "spot, not indexed" if view.lattices is not None else "spot"
    key: list[tuple[Colour, str]] = [
        (SPOT_COLOUR, spot), (BAD_COLOUR, "not used"), (SATURATED_COLOUR, "saturated")
    ]  # fmt: skip
    return key + [(lattice.colour, f"lattice {lattice.number}") for lattice in view.found]


def frame_lines(view: FrameView, *, binned: int = 1) -> list[str]:
    """What the picture shows, line by line."""
    s = view.settings
    d = f", to {np.percentile(view.d, 5):.1f} A" if len(view.spots) else ""
    lines = [
        f"{view.path.name}   frame {view.frame} of 0-{view.n_frames - 1} (image {view.image_number})",
        view.decision[0].upper() + view.decision[1:],
        f"{len(view.spots)} spots{d}; median background {round(view.median_background, 3):g} per pixel",
        f"min_snr {s.min_snr:g}   min_significance {s.min_significance:g}   min_counts {s.min_counts:g}   "
        f"min_pixels {s.min_pixels}   max_pixels {s.max_pixels}   gain {s.gain:g}",
    ]
    if view.lattices is not None:
        lines += _wrapped(view.lattices.sentences)
    if view.index != view.frame:
        lines[0] += f", {view.index} in this file"
    notes = []
    if len(view.geometry.panels) > 1:
        notes.append(f"{len(view.geometry.panels)} panels, drawn as the file stores them")
    if binned > 1:
        notes.append(f"drawn: the largest of each {binned} x {binned} pixels")
    return [*lines, *(["; ".join(notes)] if notes else [])]


def _wrapped(sentences: Iterable[str]) -> list[str]:
    """Lines that fit below the smallest picture; the first letter is large."""
    return [
        line
        for text in sentences
        for line in textwrap.wrap(text[0].upper() + text[1:], MOST_LETTERS, subsequent_indent="    ")
    ]


def _with_text(picture: Image.Image, lines: Sequence[str], key: Sequence[tuple[Colour, str]]) -> Image.Image:
    """The picture with lines of text and the key to its colours below."""
    font = ImageFont.load_default(size=LETTERS)
    width = max(picture.width, *(round(font.getlength(line)) + 2 * MARGIN for line in lines))
    sheet = Image.new("RGB", (width, picture.height + 2 * MARGIN + LINE * (len(lines) + 1)), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    y = picture.height + MARGIN
    for number, line in enumerate(lines):
        draw.text((MARGIN, y), line, fill=INK, font=font, stroke_width=0.4 if number < 2 else 0)
        y += LINE
    x = float(MARGIN)
    for colour, text in key:
        draw.rectangle([(x, y + 3), (x + 13, y + 15)], fill=colour)
        draw.text((x + 19, y), text, fill=INK, font=font)
        x += 19 + draw.textlength(text, font=font) + 22
    return sheet
