"""What a result can be exported as. Read first.

Every writer replaces an older file of the same name only when the new one is whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssx_processing.errors import SettingsError
from ssx_processing.formats.chunk_folder import read_table
from ssx_processing.formats.mmcif import CifContent, Delivery, write_mmcif
from ssx_processing.formats.whole_file import write_text
from ssx_processing.pipeline.cell_spread import cell_spread
from ssx_processing.pipeline.export_crystfel import export_crystfel
from ssx_processing.pipeline.export_dials import export_dials
from ssx_processing.pipeline.export_mtz import export_merged_mtz, export_unmerged_mtz
from ssx_processing.pipeline.export_source import ExportSource
from ssx_processing.pipeline.merged_intensities import merged_intensities
from ssx_processing.pipeline.table_one import as_latex, as_markdown, as_text, table_one


@dataclass(frozen=True)
class ExportOptions:
    """What some formats take beside the result."""

    free_flags_file: Path | None = None
    """MTZ whose free flags are kept."""
    delivery: Delivery | None = None
    """How the crystals came into the beam, for mmCIF."""
    carrier: str | None = None
    """What took them there if they were injected, e.g. LCP."""


@dataclass(frozen=True)
class ExportFormat:
    """A kind of files."""

    purpose: str
    """What they are for."""
    write: Callable[[ExportSource, Path, ExportOptions], list[Path]]
    """Into a folder; returns what was written."""
    is_slow: bool = False
    """Reads every observation."""


def _mtz(source: ExportSource, out: Path, options: ExportOptions) -> list[Path]:
    return [export_merged_mtz(source, out / f"{source.name}.mtz", options.free_flags_file)]


def _unmerged(source: ExportSource, out: Path, _options: ExportOptions) -> list[Path]:
    return [export_unmerged_mtz(source, out / f"{source.name}_unmerged.mtz")]


def _mmcif(source: ExportSource, out: Path, options: ExportOptions) -> list[Path]:
    reflections = read_table(source.merged_folder, "reflections")
    content = CifContent(
        name=source.name,
        summary=source.summary,
        reflections=merged_intensities(
            reflections,
            source.sample,
            unit_cell=source.summary.unit_cell,
            free_flags_file=options.free_flags_file,
        ),
        cell_spread=cell_spread(read_table(source.merged_folder, "lattices")),
        wavelength=source.wavelength,
        delivery=options.delivery,
        carrier=options.carrier,
    )
    return [write_mmcif(out / f"{source.name}.cif", content)]


def _table_one(source: ExportSource, out: Path, _options: ExportOptions) -> list[Path]:
    rows = table_one(source.summary, read_table(source.merged_folder, "lattices"), source.wavelength)
    writers = {"txt": as_text, "md": as_markdown, "tex": as_latex}
    return [
        write_text(out / f"{source.name}_table1.{suffix}", write(rows)) for suffix, write in writers.items()
    ]


def _crystfel(source: ExportSource, out: Path, options: ExportOptions) -> list[Path]:
    return export_crystfel(source, out)


def _dials(source: ExportSource, out: Path, options: ExportOptions) -> list[Path]:
    return export_dials(source, out)


FORMATS = {
    "mtz": ExportFormat("merged intensities, anomalous pairs, free flags: CCP4, Phenix", _mtz),
    "mmcif": ExportFormat("merged intensities and statistics: deposition at the PDB", _mmcif),
    "table1": ExportFormat("Table 1 of a publication", _table_one),
    "unmerged-mtz": ExportFormat(
        "scaled observations, one batch per lattice: Aimless, DIALS, careless", _unmerged, is_slow=True
    ),
    "crystfel": ExportFormat("stream and reflection lists: CrystFEL", _crystfel, is_slow=True),
    "dials": ExportFormat("experiments and reflections: DIALS", _dials, is_slow=True),
}
"""Name of the format to what it is, in the order they are written."""
DEFAULT = ("mtz", "mmcif", "table1")


def known_formats(names: Sequence[str]) -> list[str]:
    """The formats asked for, ``all`` for every one, in the order they are written.

    Raises
    ------
    SettingsError
        One is not known.
    """
    asked = {part.strip() for name in names for part in name.split(",")}
    unknown = sorted(asked - {*FORMATS, "all"})
    if unknown:
        raise SettingsError(f"--format {unknown[0]}: not known; expected {', '.join(FORMATS)} or all")
    return [name for name in FORMATS if name in asked or "all" in asked]
