"""The text of a CrystFEL geometry file, taken apart: panels, bad regions, groups.

The format is that of the manual page crystfel_geometry(5): lines ``name = value`` or
``panel/name = value``; a value without a panel holds for all panels that are first mentioned
after it; a semicolon starts a comment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ssx_processing.errors import GeometryError

PANEL_FIELDS = frozenset(
    "min_fs max_fs min_ss max_ss corner_x corner_y fs ss res clen coffset data adu_per_eV adu_per_photon "
    "max_adu no_index flag_lessthan flag_morethan flag_equal mask_edge_pixels mask mask_file mask_good "
    "mask_bad".split()
)
"""Beside ``dimN`` and ``maskN_...``; the newest name of each mask field is used once read."""
BEAM_FIELDS = frozenset("wavelength photon_energy bandwidth detector_shift_x detector_shift_y".split())
REGION_FIELDS = frozenset("min_x max_x min_y max_y min_fs max_fs min_ss max_ss panel".split())
IGNORED_FIELDS = frozenset(
    "peak_list peak_list_type peak_info_location badrow_direction rail_direction clen_for_centering "
    "photon_energy_bandwidth photon_energy_scale integr_radius peak_sep beam_divergence "
    "profile_radius".split()
)
"""Known, and without a bearing on positions and masks."""
UNSUPPORTED_FIELDS = {
    "electron_voltage": "electrons are not supported",
    "saturation_map": "maps of saturation values are not supported; give max_adu",
    "saturation_map_file": "maps of saturation values are not supported; give max_adu",
}
_OLD_MASK_FIELDS = {
    "mask": "mask0_data",
    "mask_file": "mask0_file",
    "mask_good": "mask0_goodbits",
    "mask_bad": "mask0_badbits",
}
_NUMBERED = re.compile(r"dim\d|mask[0-7]_(data|file|goodbits|badbits)")
_GROUP = re.compile(r"(rigid_group_collection|rigid_group|group)_(.+)")


@dataclass(frozen=True)
class Entry:
    """A value as it is written, and where."""

    text: str
    line: int


Fields = dict[str, Entry]


@dataclass
class GeomText:
    """Everything that a CrystFEL geometry file says, not yet understood."""

    path: Path
    beam: Fields = field(default_factory=dict)
    panels: dict[str, Fields] = field(default_factory=dict)
    """With the defaults that hold for each."""
    regions: dict[str, Fields] = field(default_factory=dict)
    """Bad regions."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """To names of panels."""
    collections: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """To names of groups."""
    defaults: Fields = field(default_factory=dict)
    """For the panels that would follow."""

    def error(self, entry: Entry, name: str, problem: str) -> GeometryError:
        """Error about one line."""
        return GeometryError(f"{self.path}, line {entry.line}: {name} = {entry.text}: {problem}")


def parse_geom(path: Path, text: str) -> GeomText:
    """Take the text of a CrystFEL geometry file apart.

    Raises
    ------
    GeometryError
        A line is no assignment, or of a field that is unknown or not supported.
    """
    geom = GeomText(path)
    groups: dict[str, dict[str, Entry]] = {"rigid_group_collection": {}, "rigid_group": {}, "group": {}}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition(";")[0].strip()
        if not content:
            continue
        name, equals, value = (part.strip() for part in content.partition("="))
        if not equals or not name or not value:
            raise GeometryError(f"{path}, line {number}: {content!r}, expected name = value")
        entry = Entry(value, number)
        group = _GROUP.fullmatch(name)
        if group:
            groups[group[1]][group[2]] = entry
        else:
            _assign(geom, name, entry)
    if not geom.panels:
        raise GeometryError(f"{path}: describes no panel; expected lines like p0/min_fs = 0")
    _resolve_groups(geom, groups)
    return geom


def _assign(geom: GeomText, name: str, entry: Entry) -> None:
    """Put a value where it belongs."""
    owner, _, own_name = name.rpartition("/")
    known = _OLD_MASK_FIELDS.get(own_name, own_name)
    if own_name in UNSUPPORTED_FIELDS:
        raise geom.error(entry, name, UNSUPPORTED_FIELDS[own_name])
    if own_name in IGNORED_FIELDS:
        return
    if owner.startswith("bad"):
        if own_name not in REGION_FIELDS:
            raise geom.error(
                entry, name, f"unknown field; a bad region has {', '.join(sorted(REGION_FIELDS))}"
            )
        geom.regions.setdefault(owner, {})[own_name] = entry
    elif own_name in BEAM_FIELDS and not owner:
        geom.beam[own_name] = entry
    elif own_name not in PANEL_FIELDS and not _NUMBERED.fullmatch(own_name):
        raise geom.error(entry, name, "unknown field; correct it, or remove the line if it does not matter")
    elif owner:
        geom.panels.setdefault(owner, dict(geom.defaults))[known] = entry
    else:
        geom.defaults[known] = entry


def _resolve_groups(geom: GeomText, groups: Mapping[str, Mapping[str, Entry]]) -> None:
    """Fill in groups, down to panels, and collections."""
    written = {**groups["rigid_group"], **groups["group"]}

    def panels_of(name: str, entry: Entry, above: tuple[str, ...]) -> tuple[str, ...]:
        found: list[str] = []
        for member in _names(entry):
            if member in geom.panels:
                found.append(member)
            elif member in written and member not in above:
                found += panels_of(member, written[member], (*above, member))
            else:
                raise geom.error(entry, f"group {name}", f"there is no panel {member!r}")
        return tuple(found)

    geom.groups = {name: panels_of(name, entry, (name,)) for name, entry in written.items()}
    for name, entry in groups["rigid_group_collection"].items():
        for member in _names(entry):
            if member not in written:
                raise geom.error(entry, f"rigid_group_collection_{name}", f"there is no group {member!r}")
        geom.collections[name] = _names(entry)


def _names(entry: Entry) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in entry.text.split(",") if name.strip())
