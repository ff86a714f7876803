"""Merged intensities and their statistics as PDBx/mmCIF, for deposition."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.mtz import MergedIntensities
from ssx_processing.formats.whole_file import write_text
from ssx_processing.kernels.free_flags import TEST_SET
from ssx_processing.models import MergeSummary, ShellStatistics

_ID = "1"  # of the only crystal, diffraction experiment, wavelength and scale
_CELL_ITEMS = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


class Delivery(StrEnum):
    """How crystals came into the beam, in the dictionary's words."""

    FIXED_TARGET = "fixed target"
    INJECTION = "injection"


@dataclass(frozen=True)
class CifContent:
    """What an mmCIF file of a merge tells."""

    name: str
    """Of the data block."""
    summary: MergeSummary
    reflections: MergedIntensities
    cell_spread: tuple[float, ...]
    """Standard deviation of each cell parameter over the merged lattices; 0 where symmetry holds it."""
    wavelength: float
    """Å."""
    delivery: Delivery | None = None
    """None if nobody said."""
    carrier: str | None = None
    """What took the crystals into the beam, e.g. LCP; told of injected ones."""


def write_mmcif(path: Path, content: CifContent) -> Path:
    """Write one data block with metadata, statistics and reflections.

    Every item is in wwPDB's PDBx/mmCIF dictionary. What is not known is left out.
    """
    document = gemmi.cif.Document()
    block = document.add_new_block("".join(c if c.isalnum() or c in "-_." else "_" for c in content.name))
    block.set_pair("_entry.id", gemmi.cif.quote(block.name))
    _experiment(block, content)
    _cell_and_symmetry(block, content)
    _data_reduction(block, content)
    _statistics(block, content.summary)
    _software(block)
    _reflections(block, content.reflections)
    # gemmi's own file says nothing of a full disk
    return write_text(path, document.as_string(gemmi.cif.WriteOptions(gemmi.cif.Style.Pdbx)))


def _category(block: gemmi.cif.Block, name: str, items: Mapping[str, object]) -> None:
    """Pairs of one category, values that are not known left out."""
    for item, value in items.items():
        text = _text(value)
        if text is not None:
            block.set_pair(f"_{name}.{item}", gemmi.cif.quote(text))


def _text(value: object) -> str | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _experiment(block: gemmi.cif.Block, content: CifContent) -> None:
    _category(block, "exptl_crystal", {"id": _ID})
    serial = {"id": _ID, "crystal_id": _ID, "pdbx_serial_crystal_experiment": "Y"}
    _category(block, "diffrn", serial)
    _category(
        block,
        "diffrn_radiation",
        {
            "diffrn_id": _ID,
            "wavelength_id": _ID,
            "pdbx_scattering_type": "x-ray",
            "pdbx_monochromatic_or_laue_m_l": "M",
            "pdbx_diffrn_protocol": "SINGLE WAVELENGTH",
        },
    )
    _category(
        block, "diffrn_radiation_wavelength", {"id": _ID, "wavelength": content.wavelength, "wt": "1.0"}
    )
    delivery = content.delivery
    if delivery is not None:
        items = {"diffrn_id": _ID, "method": str(delivery)}
        _category(block, "pdbx_serial_crystallography_sample_delivery", items)
    if delivery is Delivery.INJECTION and content.carrier:
        items = {"diffrn_id": _ID, "carrier_solvent": content.carrier}
        _category(block, "pdbx_serial_crystallography_sample_delivery_injection", items)


def _cell_and_symmetry(block: gemmi.cif.Block, content: CifContent) -> None:
    cell, spread = content.summary.unit_cell, content.cell_spread
    items: dict[str, object] = {"entry_id": block.name}
    items |= {name: f"{value:.4f}" for name, value in zip(_CELL_ITEMS, cell, strict=True)}
    known = {name: sd for name, sd in zip(_CELL_ITEMS, spread, strict=True) if math.isfinite(sd) and sd > 0}
    items |= {f"{name}_esd": f"{sd:.4f}" for name, sd in known.items()}
    _category(block, "cell", items | ({"pdbx_esd_method": "population"} if known else {}))
    group = gemmi.SpaceGroup(content.summary.space_group)
    _category(
        block,
        "symmetry",
        {
            "entry_id": block.name,
            "space_group_name_H-M": symbol_of_the_pdb(group),
            "Int_Tables_number": group.number,
        },
    )


def symbol_of_the_pdb(group: gemmi.SpaceGroup) -> str:
    """Hermann-Mauguin symbol as the PDB writes it: H for R on hexagonal axes.

    Examples
    --------
    >>> [symbol_of_the_pdb(gemmi.SpaceGroup(name)) for name in ("P43212", "H 3 2", "R 3 2 :R", "C2")]
    ['P 43 21 2', 'H 3 2', 'R 3 2', 'C 1 2 1']
    """
    return f"H{group.hm[1:]}" if group.hm.startswith("R") and group.ext == "H" else group.hm


def _data_reduction(block: gemmi.cif.Block, content: CifContent) -> None:
    counts = content.summary.counts
    _category(
        block,
        "pdbx_serial_crystallography_data_reduction",
        {
            "diffrn_id": _ID,
            "frames_total": counts.frames_total,
            "frame_hits": counts.frame_hits,
            "crystal_hits": counts.crystal_hits,
            "frames_failed_index": counts.frames_failed_index,
            "frames_indexed": counts.frames_indexed,
            "lattices_indexed": counts.lattices_indexed,
            "lattices_merged": content.summary.lattices_merged,
        },
    )


_OVERALL_ITEMS = (
    ("d_resolution_low", "d_max", 1),
    ("d_resolution_high", "d_min", 1),
    ("number_obs", "n_reflections", 1),
    ("pdbx_number_measured_all", "n_observations", 1),
    ("percent_possible_obs", "completeness", 100),
    ("pdbx_redundancy", "multiplicity", 1),
    ("pdbx_netI_over_sigmaI", "mean_i_over_sigma", 1),
    ("pdbx_CC_half", "cc_half", 1),
    ("pdbx_CC_star", "cc_star", 1),
    ("pdbx_R_split", "r_split", 1),
    ("pdbx_Rmerge_I_obs", "r_merge", 1),
    ("pdbx_Rrim_I_all", "r_meas", 1),
    ("pdbx_Rpim_I_all", "r_pim", 1),
    ("pdbx_CC_half_anomalous", "cc_anomalous", 1),
    ("pdbx_percent_possible_anomalous", "anomalous_completeness", 100),
)
"""Items of _reflns: name, attribute of the statistics, factor."""
_SHELL_ITEMS = (
    ("d_res_low", "d_max", 1),
    ("d_res_high", "d_min", 1),
    ("number_measured_all", "n_observations", 1),
    ("number_unique_all", "n_reflections", 1),
    ("number_possible", "n_possible", 1),
    ("percent_possible_all", "completeness", 100),
    ("pdbx_redundancy", "multiplicity", 1),
    ("meanI_over_sigI_obs", "mean_i_over_sigma", 1),
    ("pdbx_CC_half", "cc_half", 1),
    ("pdbx_CC_star", "cc_star", 1),
    ("pdbx_R_split", "r_split", 1),
    ("Rmerge_I_obs", "r_merge", 1),
    ("pdbx_Rrim_I_all", "r_meas", 1),
    ("pdbx_Rpim_I_all", "r_pim", 1),
    ("pdbx_CC_half_anomalous", "cc_anomalous", 1),
    ("pdbx_percent_possible_anomalous", "anomalous_completeness", 100),
)
"""Items of _reflns_shell."""


def _statistics(block: gemmi.cif.Block, summary: MergeSummary) -> None:
    first = {"entry_id": block.name, "pdbx_diffrn_id": _ID, "pdbx_ordinal": 1}
    last = {"pdbx_CC_split_method": "by_lattice", "B_iso_Wilson_estimate": summary.wilson_b}
    _category(block, "reflns", first | _values(summary.overall, _OVERALL_ITEMS) | last)
    rows = [
        {"pdbx_ordinal": number, "pdbx_diffrn_id": _ID, **_values(shell, _SHELL_ITEMS)}
        for number, shell in enumerate(summary.shells, start=1)
    ]
    columns = {item: [_text(row[item]) for row in rows] for item in rows[0]} if rows else {}
    known = {item: texts for item, texts in columns.items() if any(text is not None for text in texts)}
    if known:
        texts = [
            ["?" if text is None else gemmi.cif.quote(text) for text in column] for column in known.values()
        ]
        block.init_loop("_reflns_shell.", list(known)).set_all_values(texts)


def _values(shell: ShellStatistics, items: Sequence[tuple[str, str, int]]) -> dict[str, object]:
    """Items that these statistics have; nan where they lack one."""
    return {item: factor * getattr(shell, name, math.nan) for item, name, factor in items}


def _software(block: gemmi.cif.Block) -> None:
    loop = block.init_loop("_software.", ["pdbx_ordinal", "classification", "name", "version"])
    for number, classification in enumerate(("data reduction", "data scaling"), start=1):
        words = (str(number), classification, "ssx-orchestrator", version("ssx-orchestrator"))
        loop.add_row([gemmi.cif.quote(word) for word in words])


def _reflections(block: gemmi.cif.Block, merged: MergedIntensities) -> None:
    """The _refln loop; a reflection that was measured is observed, free or not."""
    columns: dict[str, Sequence[str]] = {
        "crystal_id": [_ID] * len(merged.hkl),
        "wavelength_id": [_ID] * len(merged.hkl),
        "scale_group_code": [_ID] * len(merged.hkl),
    }
    columns |= {f"index_{name}": [str(i) for i in merged.hkl[:, k]] for k, name in enumerate("hkl")}
    if merged.free_flag is not None:
        columns["status"] = np.where(merged.free_flag == TEST_SET, "f", "o").tolist()
        columns["pdbx_r_free_flag"] = [str(flag) for flag in merged.free_flag]
    values = {
        "intensity_meas": merged.intensity,
        "intensity_sigma": merged.sigma,
        "pdbx_I_plus": merged.intensity_plus,
        "pdbx_I_plus_sigma": merged.sigma_plus,
        "pdbx_I_minus": merged.intensity_minus,
        "pdbx_I_minus_sigma": merged.sigma_minus,
    }
    columns |= {name: _numbers(found) for name, found in values.items() if found is not None}
    _category(block, "reflns_scale", {"group_code": _ID})
    block.init_loop("_refln.", list(columns)).set_all_values([list(column) for column in columns.values()])


def _numbers(values: NDArray[np.floating]) -> list[str]:
    """Seven digits, what float32 of an MTZ holds; ? where not measured."""
    return [f"{value:.7g}" if math.isfinite(value) else "?" for value in values.tolist()]
