"""A frame as an HTML page that works offline: zoom into the pixels, hover over spots, see the thresholds.

Look and script are in ``frame_page_template.html``. The pixels travel as a grey PNG whose values
are codes of counts, so that the page can change their contrast and tell their counts.
"""

import base64
import html
import io
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from plotly.offline import get_plotlyjs

from ssx_processing.kernels import geometry as geo
from ssx_processing.pipeline import report_html as page
from ssx_processing.pipeline.frame_picture import grey_scale
from ssx_processing.pipeline.frame_view import FrameView
from ssx_processing.pipeline.lattice_view import SeenLattice
from ssx_processing.pipeline.report_colours import BLUE, GREY, ORANGE, RED
from ssx_processing.pipeline.report_plots import Plot, PlotWriter, styled
from ssx_processing.pipeline.resolution_rings import (
    HEXAGONAL_ICE,
    ICE_LABEL_AZIMUTH,
    direct_beam,
    resolution_ring,
    resolutions_in_view,
)

TEMPLATE = "frame_page_template.html"
CODE_BAD, CODE_SATURATED, CODE_FIRST = 0, 1, 2
"""Values of the PNG; from the third on they stand for counts."""
LINEAR_CODES = 160
"""Codes for counts in equal steps; the others are for larger counts, in equal ratios."""
PNG_BYTES = 3.3e6
"""Size aimed at, at least nearly; steps between codes are wider where the noise would need more."""


@dataclass(frozen=True)
class CodedPixels:
    """Pixels as one byte each."""

    codes: NDArray[np.uint8]
    """(slow, fast)."""
    counts: NDArray[np.float64]
    """Least counts that each code stands for; the first two are no counts."""

    @property
    def png(self) -> bytes:
        """The codes as a grey PNG."""
        stream = io.BytesIO()
        Image.fromarray(self.codes, "L").save(stream, format="PNG", compress_level=6)
        return stream.getvalue()


def coded_pixels(view: FrameView) -> CodedPixels:
    """Pixels in 254 levels: every count its own as long as there are few, else finer than the noise.

    Noise does not compress: a pixel costs about log2(4.1 sigma / step) bits.
    """
    usable = ~(view.is_bad | view.is_saturated)
    values = view.image[usable].astype(np.float64)
    sigma = float(np.median(view.rings.deviation)) if len(view.rings.deviation) else 1.0
    step = 4.1 * sigma / 2 ** (8 * PNG_BYTES / max(view.image.size, 1))
    whole = np.issubdtype(view.image.dtype, np.integer)
    step = max(float(np.ceil(step)), 1.0) if whole else max(step, view.settings.gain / 8)
    low = min(0.0, float(np.percentile(values, 0.01))) if values.size else 0.0
    linear = low + step * np.arange(LINEAR_CODES)
    high = max(float(values.max(initial=0.0)), linear[-1] + step)
    steep = np.geomspace(
        LINEAR_CODES, max((high - low) / step, LINEAR_CODES + 1), 256 - CODE_FIRST - LINEAR_CODES
    )
    counts = np.concatenate([[0.0] * CODE_FIRST, linear, low + step * steep])
    codes = np.full(view.image.shape, CODE_BAD, np.uint8)
    codes[usable] = np.searchsorted(counts[CODE_FIRST + 1 :], values, side="right") + CODE_FIRST
    codes[view.is_saturated] = CODE_SATURATED
    return CodedPixels(codes, counts)


def write_page(view: FrameView, path: Path, *, spots: bool = True, ice: bool = False) -> Path:
    """Write the page; ``spots`` and ``ice`` are what is drawn at first, buttons change it."""
    path.write_text(frame_page(view, spots=spots, ice=ice), encoding="utf-8")
    return path


def frame_page(view: FrameView, *, spots: bool = True, ice: bool = False) -> str:
    """The page as text."""
    coded = coded_pixels(view)
    content = _content(view, coded) | {"show": {"spots": spots, "rings": True, "ice": ice}}
    template = Template((files(__package__ or "") / TEMPLATE).read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(f"{view.path.name}, frame {view.frame}"),
        decision=html.escape(view.decision),
        css="hit" if view.is_hit else "miss",
        facts=page.facts(_facts(view)),
        lattices=_lattice_lines(view),
        toggles=_lattice_toggles(view),
        key=_key(view),
        settings=_settings_table(view),
        profile=PlotWriter().figure(profile_plot(view)),
        png=base64.b64encode(coded.png).decode("ascii"),
        content=_script_json(content),
        plotly=get_plotlyjs(),
    )


def _key(view: FrameView) -> str:
    """What the colours stand for."""
    spot = "spot, not indexed" if view.lattices else "spot"
    pairs = [("#d55e00", spot), ("#aac4de", "not used"), ("#e600aa", "saturated")]
    pairs += [(o.colour, f"lattice {o.number}: circles its spots, squares predicted") for o in view.found]
    return "".join(f'<span><i style="background:{colour}"></i>{text}</span>' for colour, text in pairs)


def _script_json(content: dict[str, Any]) -> str:
    """JSON without characters that could end a script element."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _content(view: FrameView, coded: CodedPixels) -> dict[str, Any]:
    """What the script draws."""
    levels = grey_scale(view)
    rings = [resolution_ring(view.geometry, d) for d in resolutions_in_view(view.q_range)]
    ice = [resolution_ring(view.geometry, d, ICE_LABEL_AZIMUTH) for d in HEXAGONAL_ICE]
    rectangles, axes = geo.panel_rectangles(view.geometry), geo.panel_axes(view.geometry)
    return {
        "width": view.image.shape[1],
        "height": view.image.shape[0],
        "counts": [float(f"{value:.6g}") for value in coded.counts],
        "white": levels.white,
        "softness": levels.softness,
        "black": levels.black,
        "threshold": view.settings.min_spots_for_hit,
        "panels": [[*r, *a.ravel()] for r, a in zip(rectangles.tolist(), axes, strict=True)],
        "s0": geo.incident_wave_vector(view.geometry).tolist(),
        "beam": direct_beam(view.geometry),
        "spots": _spot_columns(view),
        "rings": [_drawn(ring) for ring in rings if ring],
        "ice": [_drawn(ring) for ring in ice if ring],
        "lattices": [_prediction_columns(lattice) for lattice in view.found],
    }


def _drawn(ring: Any) -> dict[str, Any]:
    pieces = [piece.round(1).tolist() for piece in ring.pieces]
    return {"d": ring.d, "pieces": pieces, "label": [round(value, 1) for value in ring.label_at]}


def _spot_columns(view: FrameView) -> dict[str, list[float]]:
    s = view.spots
    columns = {
        "x": s.x_px, "y": s.y_px, "counts": s.intensity, "snr": s.snr, "ratio": s.peak_snr, "d": view.d,
        "pixels": s.n_pixels, "peak": s.peak_value, "background": s.background, "saturated": s.n_saturated,
    }  # fmt: skip
    drawn = {name: [float(f"{value:.6g}") for value in values] for name, values in columns.items()}
    if view.lattices is not None:
        drawn["lattice"] = view.lattices.spot_lattice.tolist()
    return drawn


def _prediction_columns(lattice: SeenLattice) -> dict[str, Any]:
    return {
        "number": lattice.number,
        "colour": lattice.colour,
        "hkl": [" ".join(map(str, row)) for row in lattice.hkl.tolist()],
        "x": lattice.x_px.round(2).tolist(),
        "y": lattice.y_px.round(2).tolist(),
        "d": lattice.d.round(3).tolist(),
        "error": (1e3 * lattice.excitation_error).round(3).tolist(),
        "sigma": (1e3 * lattice.excitation_sigma).round(3).tolist(),
    }


def _lattice_lines(view: FrameView) -> str:
    """What was found, a line for each lattice."""
    if view.lattices is None:
        return ""
    head, *others = view.lattices.sentences
    return page.paragraph(head[0].upper() + head[1:]) + (page.items(others) if others else "")


def _lattice_toggles(view: FrameView) -> str:
    """A switch for each lattice's predictions, with its colour."""
    return "".join(
        f'<label><input type="checkbox" data-lattice="{n}" checked>'
        f'<i style="background:{lattice.colour}"></i>lattice {lattice.number}</label>'
        for n, lattice in enumerate(view.found)
    )


def _facts(view: FrameView) -> list[tuple[str, str]]:
    in_file = "" if view.index == view.frame else f"; {view.index} in its file"
    spots = view.spots
    facts = [
        ("file", str(view.path)),
        ("frame", f"{view.frame} of 0 to {view.n_frames - 1} (image {view.image_number}){in_file}"),
        ("spots", f"{len(spots)}, with {spots.intensity.sum() / view.settings.gain:.0f} photons"),
        ("background", f"{page.number(view.median_background, 3)} counts per pixel, median over the rings"),
        ("wavelength", f"{view.geometry.wavelength:.5g} Å"),
        ("pixels not used", page.share(int(view.is_bad.sum()), view.is_bad.size)),
    ]
    if len(spots):
        facts.insert(3, ("resolution", f"{np.percentile(view.d, 5):.2f} Å, of the finest 5 % of the spots"))
    if view.is_saturated.any():
        facts.append(("saturated pixels", str(int(view.is_saturated.sum()))))
    if len(view.geometry.panels) > 1:
        facts.append(("panels", f"{len(view.geometry.panels)}, drawn where the file stores them"))
    return facts


def _settings_table(view: FrameView) -> str:
    """Every setting of the spots and its value; what it means shows on hovering."""
    rows = []
    for name, field in type(view.settings).model_fields.items():
        value = getattr(view.settings, name)
        css = ' class="changed"' if value != field.default else ""
        meaning = html.escape(field.description or "")
        text = f"{value:g}" if isinstance(value, float) else str(value)
        rows.append(f'<tr{css} title="{meaning}"><td><abbr>spots.{name}</abbr></td><td>{text}</td></tr>')
    return page.table(map(page.plain_heading, ("setting", "value")), rows)


def profile_plot(view: FrameView) -> Plot:
    """Mean and threshold of each ring, and the spots' highest pixels."""
    figure = go.Figure()
    rings = view.rings
    for half, dash in ((~rings.is_sideways, "solid"), (rings.is_sideways, "dot")):
        note = ", along x" if dash == "dot" else ""
        if not half.any():
            continue
        for values, name, colour in (
            (rings.mean, "mean", GREY),
            (
                rings.mean + view.settings.min_snr * rings.deviation,
                f"mean + {view.settings.min_snr:g} σ",
                BLUE,
            ),
            (rings.threshold, "threshold", RED),
        ):
            figure.add_scatter(
                x=rings.q[half], y=_positive(values[half]), name=name + note, mode="lines",
                line={"color": colour, "width": 3 if colour == RED else 1.5, "dash": dash}, opacity=0.8,
                hovertemplate="%{y:.3g}",
            )  # fmt: skip
    figure.add_scatter(
        x=1 / view.d, y=_positive(view.spots.peak_value), name="highest pixel of a spot", mode="markers",
        marker={"color": ORANGE, "size": 5}, hovertemplate="%{y:.4g}",
    )  # fmt: skip
    styled(figure, height=340).update_layout(hovermode="closest")
    ticks = resolutions_in_view(view.q_range, 9)
    figure.update_xaxes(
        title_text="resolution / Å", tickvals=[1 / d for d in ticks], ticktext=[f"{d:g}" for d in ticks]
    )
    figure.update_yaxes(title_text="counts", type="log", dtick=1)
    caption = (
        "Of each ring of equal resolution: the mean of its background, and the threshold that a pixel of a "
        "spot exceeds: min_snr standard deviations, and at least min_counts photons, above the mean. "
        "Dotted: at wide angles the half of a ring along x, where a polarised beam scatters less."
    )
    return Plot(figure, "Thresholds", caption)


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values that a logarithmic axis can show."""
    return np.maximum(values, 1e-2)
