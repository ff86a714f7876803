"""Whether two geometries are the same, within what files of one experiment may differ by."""

import math
from dataclasses import fields

import numpy as np

from ssx_processing.models import Geometry, Panel

WAVELENGTH_TOLERANCE = 1e-4
"""Relative."""
POSITION_TOLERANCE_MM = 0.01
DIRECTION_TOLERANCE = 1e-5


def geometry_difference(one: Geometry, other: Geometry) -> str | None:
    """First difference beyond the tolerances, as "wavelength 1 Å, other"; None if alike."""
    if one.image_shape != other.image_shape:
        return f"image shape {other.image_shape}, other ({one.image_shape})"
    if not math.isclose(one.wavelength, other.wavelength, rel_tol=WAVELENGTH_TOLERANCE):
        return f"wavelength {other.wavelength:.6f} Å, other ({one.wavelength:.6f} Å)"
    if not np.allclose(one.beam_direction, other.beam_direction, rtol=0, atol=DIRECTION_TOLERANCE):
        return f"beam direction {other.beam_direction}, other ({one.beam_direction})"
    if len(one.panels) != len(other.panels):
        return f"{len(other.panels)} panels, other ({len(one.panels)})"
    for panel, other_panel in zip(one.panels, other.panels, strict=True):
        name = _panel_difference(panel, other_panel)
        if name:
            here, there = getattr(panel, name), getattr(other_panel, name)
            return f"panel {other_panel.name} has {name} {there}, other ({here})"
    return None


def _panel_difference(one: Panel, other: Panel) -> str | None:
    """Name of the first field that differs beyond its tolerance."""
    tolerances = {
        "origin_mm": POSITION_TOLERANCE_MM,
        "fast_axis": DIRECTION_TOLERANCE,
        "slow_axis": DIRECTION_TOLERANCE,
        "pixel_size_mm": DIRECTION_TOLERANCE,
    }
    for entry in fields(Panel):
        if entry.name == "name":
            continue
        values = getattr(one, entry.name), getattr(other, entry.name)
        if not np.allclose(*values, rtol=0, atol=tolerances.get(entry.name, 0)):
            return entry.name
    return None
