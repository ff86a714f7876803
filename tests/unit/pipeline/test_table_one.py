"""Table 1: what it says, in which words of text, Markdown and LaTeX, and the spread of cells."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ssx_processing.pipeline.cell_spread import cell_spread
from ssx_processing.pipeline.chunk_columns import CELL_COLUMNS
from ssx_processing.pipeline.table_one import as_latex, as_markdown, as_text, table_one
from tests.unit.formats.test_mmcif import SUMMARY


def lattices_with(cells: np.ndarray, reasons: list[str]) -> pd.DataFrame:
    return pd.DataFrame(cells, columns=CELL_COLUMNS).assign(filter_reason=reasons)


@pytest.fixture
def lattices(rng: np.random.Generator) -> pd.DataFrame:
    lengths = rng.normal(79.2, 0.15, 400)
    cells = np.column_stack([lengths, lengths, rng.normal(38.0, 0.05, 400), *np.full((3, 400), 90.0)])
    cells[200:, 0] = 70.0  # another form, which was not merged
    return lattices_with(cells, [""] * 200 + ["other_cell_cluster"] * 200)


def test_spread_is_of_the_merged_lattices_only_and_nothing_where_symmetry_holds(lattices: pd.DataFrame):
    spread = cell_spread(lattices)
    assert spread[0] == pytest.approx(lattices["a"][:200].std(), rel=1e-9)
    assert spread[0] == pytest.approx(0.15, rel=0.2)
    assert spread[2] == pytest.approx(0.05, rel=0.2)
    assert spread[3:] == (0, 0, 0)


def test_cells_of_reindexed_lattices_are_compared_in_the_setting_of_the_merge():
    cells = np.array([[40.0, 50.0, 60.0, 90.0, 90.0, 90.0], [50.1, 40.1, 60.1, 90.0, 90.0, 90.0]])
    lattices = lattices_with(cells, ["", ""]).assign(reindexing=["h,k,l", "k,h,-l"])
    assert cell_spread(lattices)[:3] == pytest.approx([0.1 / np.sqrt(2)] * 3)


def test_one_lattice_has_no_spread(lattices: pd.DataFrame):
    assert np.isnan(cell_spread(lattices[:1])).all()


def test_the_table_tells_overall_and_outer_shell(lattices: pd.DataFrame):
    rows = {row.label: row.value for row in table_one(SUMMARY, lattices, 0.9763)}
    assert rows["Wavelength (Å)"] == "0.9763"
    assert rows["Space group"] == "P4_{3}2_{1}2"
    a, b, c = rows["a, b, c (Å)"].split(", ")
    assert (a, c) == (b, f"38.00({round(100 * lattices['c'][:200].std())})")
    assert rows["α, β, γ (°)"] == "90, 90, 90"
    assert rows["Resolution (Å)"] == "40.00–2.00 (2.50–2.00)"
    assert rows["Hits (% of frames)"] == "400 (40.0)"
    assert rows["Indexed frames (% of hits)"] == "300 (75.0)"
    assert rows["Lattices merged"] == "340"
    assert rows["Completeness (%)"] == "96.2 (96.2)"
    assert rows["CC_{1/2}"] == "0.900 (–)"  # not determined in the outer shell
    assert rows["R_{split} (%)"] == "15.0 (15.0)"
    assert rows["Wilson B (Å^{2})"] == "23.4"


def test_text_is_aligned_and_without_markup(lattices: pd.DataFrame):
    text = as_text(table_one(SUMMARY, lattices, 0.9763))
    lines = text.split("\n\n")[0].splitlines()
    assert len({line.index(line.split("   ")[-1].strip()) for line in lines}) == 1
    assert "P43212" in text
    assert "CC1/2 " in text
    assert "Å²" in text
    assert not set("{}_^") & set(text)


def test_markdown_has_two_columns_and_escapes_its_own_signs(lattices: pd.DataFrame):
    rows = table_one(replace(SUMMARY, space_group="P 1"), lattices, 0.9763)
    table = as_markdown(rows).split("\n\n")[0].splitlines()
    assert {line.count("|") for line in table} == {3}
    assert "| CC<sub>1/2</sub> | 0.900 (–) |" in table
    assert r"| CC\* | 0.970 (0.970) |" in table


def test_latex_is_ascii_with_balanced_braces_and_escaped_percent(lattices: pd.DataFrame):
    text = as_latex(table_one(SUMMARY, lattices, 0.9763))
    assert text.isascii()
    assert text.count("{") == text.count("}")
    assert text.count("$") % 2 == 0
    table = text[text.index("\\toprule") : text.index("\\bottomrule")]
    assert table.count("%") == table.count(r"\%")
    assert r"Space group & P4$_{\mathrm{3}}$2$_{\mathrm{1}}$2 \\" in text
