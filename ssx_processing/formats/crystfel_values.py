"""Values in CrystFEL geometry files: numbers, quantities with units, vectors, axes."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ssx_processing.errors import GeometryError
from ssx_processing.formats.crystfel_syntax import Fields, GeomText
from ssx_processing.formats.geometry_model import FRAME

_UNSIGNED = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TERM = re.compile(rf"([+-]?)({_UNSIGNED})?([xyz])")
_QUANTITY = re.compile(rf"([+-]?{_UNSIGNED}|/\S+)\s*([A-Za-z]*)")


@dataclass(frozen=True)
class Quantity:
    """A number, or where the data file has it, with the factor to the unit asked for."""

    number: float
    """nan where the data file has it."""
    location: str | None
    """HDF5 path in the data file."""
    factor: float

    def value(self, header: Mapping[str, float]) -> float:
        """Return the value; ``header`` has what the data file holds at each location."""
        return self.factor * (self.number if self.location is None else header[self.location])


@dataclass(frozen=True)
class Values:
    """The fields of one panel, of one bad region, or of the beam."""

    geom: GeomText
    owner: str
    """Name of panel or region; empty for the beam."""
    fields: Fields

    def __contains__(self, name: str) -> bool:
        """Whether the field is given."""
        return name in self.fields

    def error(self, name: str, problem: str) -> GeometryError:
        """Error about a field that is given."""
        return self.geom.error(self.fields[name], f"{self.owner}/{name}" if self.owner else name, problem)

    def text(self, name: str, default: str | None = None) -> str:
        """Value as it is written.

        Raises
        ------
        GeometryError
            It is not given and has no default; so do all others here.
        """
        if name in self.fields:
            return self.fields[name].text
        if default is None:
            where = f"panel {self.owner}" if self.owner in self.geom.panels else self.owner or "the file"
            raise GeometryError(f"{self.geom.path}: {where} has no {name}")
        return default

    def number(self, name: str, default: float | None = None) -> float:
        """Finite number."""
        text = self.text(name, None if default is None else str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(name, "expected a number")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """Whole number, also written as 0xff or, as some programs write it, 3.0."""
        text = self.text(name, None if default is None else str(default))
        try:
            return int(text, 0)
        except ValueError:
            value = self.number(name)
        if value != int(value):
            raise self.error(name, "expected a whole number")
        return int(value)

    def flag(self, name: str) -> bool:
        """1 or true; false if not given."""
        text = self.text(name, "0").lower()
        if text not in ("0", "1", "true", "false"):
            raise self.error(name, "expected 0 or 1")
        return text in ("1", "true")

    def quantity(
        self, name: str, units: Mapping[str, float], *, literal: str = "", header: str = ""
    ) -> Quantity:
        """Quantity.

        Parameters
        ----------
        units
            Unit to its factor to the unit asked for.
        literal, header
            Units of a number and of a value in the data file where none is written.
        """
        match = _QUANTITY.fullmatch(self.text(name))
        if match is None:
            raise self.error(name, "expected a number or an HDF5 path that starts with /, and a unit")
        location = match[1] if match[1].startswith("/") else None
        unit = match[2] or (header if location else literal)
        if unit not in units:
            raise self.error(name, f"expected the unit {' or '.join(units)}")
        return Quantity(math.nan if location else float(match[1]), location, units[unit])

    def vector(self, name: str) -> NDArray[np.float64]:
        """Vector of shape (3,), written like ``-0.9999x +0.0059y``."""
        components = _components(self.text(name))
        if components is None:
            raise self.error(name, "expected a vector like -0.9999x +0.0059y +0.0001z")
        return np.array(components)

    def axes(self) -> tuple[str | int, ...]:
        """Meaning of each axis of the panel's dataset, from ``dim0``, ``dim1``..."""
        names = sorted(name for name in self.fields if name.startswith("dim"))
        if not names:
            return "ss", "fs"
        if names != [f"dim{i}" for i in range(len(names))]:
            raise self.error(names[-1], f"has no dim{_first_gap(names)}")
        axes = tuple(self._axis(name) for name in names)
        order = [axis for axis in axes if axis in ("ss", "fs")]
        if order != ["ss", "fs"] or axes.count(FRAME) > 1:
            raise self.error(
                names[-1], f"the axes are {axes}, expected ss before fs, each once, and % once at most"
            )
        return axes

    def _axis(self, name: str) -> str | int:
        text = self.text(name)
        if text in (FRAME, "ss", "fs"):
            return text
        if not text.isdigit():
            raise self.error(name, "expected %, ss, fs or a number")
        return int(text)


@lru_cache(maxsize=4096)
def _components(text: str) -> tuple[float, float, float] | None:
    """x, y and z of a vector; None if it is not written as one. Kept: many panels, many bad regions."""
    text = "".join(text.split())
    terms = list(_TERM.finditer(text))
    sizes = {axis: float(f"{sign}{size or 1}") for sign, size, axis in (term.groups() for term in terms)}
    if "".join(term[0] for term in terms) != text or len(sizes) < len(terms):
        return None
    return sizes.get("x", 0.0), sizes.get("y", 0.0), sizes.get("z", 0.0)


def _first_gap(names: list[str]) -> int:
    """Smallest number without its ``dimN``."""
    return next(i for i in range(len(names) + 1) if f"dim{i}" not in names)
