"""The page for people, made from small run folders written by hand."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssx_processing.errors import ChunkError
from ssx_processing.formats.chunk_folder import write_chunk, write_json
from ssx_processing.formats.merge_folder import MergeTables, write_merge
from ssx_processing.formats.mtz import MergedIntensities
from ssx_processing.models import FrameCounts, FrameRange, MergeSummary, ShellStatistics
from ssx_processing.pipeline.frame_ranges import frame_ranges
from ssx_processing.pipeline.report import write_report
from ssx_processing.pipeline.report_binning import value_bins
from ssx_processing.pipeline.report_data import read_report_data
from ssx_processing.pipeline.report_frame_plots import MAX_POINTS, binned_rates
from ssx_processing.settings import MergingSettings, ProcessingSettings, SampleSettings, SpotSettings

CELL = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
SETTINGS = ProcessingSettings(
    sample=SampleSettings(unit_cell=CELL, space_group="P43212"), spots=SpotSettings(min_spots_for_hit=12)
)


class Page(HTMLParser):
    """Elements with their attributes, and the text a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = 0
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else f"{data} "

    @property
    def plots(self) -> list[dict]:
        found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', self.source, re.DOTALL)
        return [json.loads(text) for text in found]

    def has_section(self, anchor: str) -> bool:
        return ("section", {"id": anchor}) in self.elements


@dataclass
class Run:
    """A run folder in the making."""

    folder: Path
    n_frames: int = 40
    frames_per_chunk: int = 10
    spots: int = 30
    """Of every second frame; the others have 3."""
    lattices: bool = True
    name: str = "chip_master.h5"
    skip: tuple[int, ...] = ()
    """Places of chunks that failed."""
    unreadable: tuple[int, ...] = ()
    paths: tuple[str, ...] = ("/visit/chip_master.h5",)
    keys: list[str] = field(default_factory=list)

    def write(self) -> Path:
        ranges = frame_ranges(self.n_frames, self.frames_per_chunk)
        self.keys = [f"key{i:013d}" for i in range(len(ranges))]
        for place, frames in enumerate(ranges):
            if place not in self.skip:
                self._write_chunk(self.folder / "chunks" / self.keys[place], frames)
        plan = {"paths": self.paths, "frames_total": self.n_frames, "wavelength": 0.97625}
        content = {
            "name": self.name,
            "data_collection_id": 8817,
            "plan": {**plan, "ranges": [asdict(frames) for frames in ranges]},
            "calibration": "none",
            "chunks": self.keys,
            "settings": SETTINGS.model_dump(mode="json"),
        }
        write_json(self.folder / "plan.json", content)
        return self.folder

    def _write_chunk(self, folder: Path, frames: FrameRange) -> None:
        numbers = np.arange(frames.start, frames.stop)
        n_spots = np.where(numbers % 2 == 0, self.spots, 3)
        is_hit = n_spots >= 12
        status = np.where(is_hit, "integrated" if self.lattices else "not_indexed", "no_hit")
        status[np.isin(numbers, self.unreadable)] = "unreadable"
        hits, indexed = int(np.isin(status, ("integrated", "not_indexed")).sum()), status == "integrated"
        counts = FrameCounts(
            frames_total=len(numbers),
            frames_unreadable=int((status == "unreadable").sum()),
            frame_hits=hits,
            crystal_hits=hits,
            frames_indexed=int(indexed.sum()),
            frames_failed_index=hits - int(indexed.sum()),
            lattices_indexed=int(indexed.sum()),
        )
        table = {"frame": numbers, "status": status, "n_spots": n_spots, "median_background": 2.0}
        summary = {"counts": asdict(counts), "cpu_seconds": 0.02 * len(numbers), "version": "0.0.9"}
        tables = {"frames": pd.DataFrame(table), "lattices": lattice_table(numbers[indexed])}
        write_chunk(folder, tables, summary)


def lattice_table(frames: np.ndarray) -> pd.DataFrame:
    cells = np.array(CELL) + np.column_stack([0.01 * np.sin(frames)] * 3 + [0 * frames] * 3)
    table = pd.DataFrame(cells, columns=["a", "b", "c", "alpha", "beta", "gamma"])
    return table.assign(
        frame=frames, lattice=0, n_indexed=25, n_spots=30, rmsd_px=0.3, resolution_limit=2.0 + 0.01 * frames
    )


def write_merge_of(run: Run, **changes: object) -> Path:
    """A merge of all lattices of the run but the first, with statistics that can be told from each other."""
    chunks = [key for place, key in enumerate(run.keys) if place not in run.skip]
    lattices = pd.concat(
        pd.read_parquet(run.folder / "chunks" / key / "lattices.parquet")[["frame", "lattice"]].assign(
            chunk=key
        )
        for key in chunks
    ).assign(scale=1.1, b_factor=0.5, cc=0.9)
    lattices["filter_reason"] = ["too few observations"] + [""] * (len(lattices) - 1)
    outer = ShellStatistics(3.0, 2.0, 400, 80, 100, 0.8, 5.0, 1.25, 0.412, 0.764, 0.345)
    inner = ShellStatistics(20.0, 3.0, 5000, 100, 100, 1.0, 50.0, 9.5, 0.991, 0.998, 0.057)
    summary = MergeSummary(
        key="merge",
        folder=run.folder / "merged" / "merge",
        reused=False,
        counts=FrameCounts(frames_total=run.n_frames, lattices_indexed=len(lattices)),
        lattices_merged=len(lattices) - 1,
        lattices_excluded={"too few observations": 1},
        chunks_expected=len(run.keys),
        chunks_merged=len(chunks),
        missing=(),
        unit_cell=CELL,
        space_group="P43212",
        overall=ShellStatistics(20.0, 2.0, 5400, 196, 200, 0.983, 27.5, 6.31, 0.987, 0.996, 0.083),
        shells=(inner, outer),
        wilson_b=23.4,
        warnings=(),
    )
    summary = replace(summary, **changes)  # pyright: ignore[reportArgumentType]
    d = np.linspace(2.0, 19.0, 30)
    ones = np.ones(30)
    hkl = np.column_stack([np.arange(1, 31)] * 3).astype(np.int32)
    intensities = MergedIntensities(hkl, ones, ones, np.ones(30, np.int64))
    reflections = pd.DataFrame({"d": d, "intensity": d**2})
    tables = MergeTables(intensities, reflections, lattices, rejected=pd.DataFrame({"reason": []}))
    merging = MergingSettings(d_min=2.0).model_dump(mode="json")
    write_merge(summary, tables, wavelength=0.97625, details={"merging": merging}, history=())
    return summary.folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "result")


def test_page_reaches_for_nothing_outside_itself(run: Run) -> None:
    page = Page(write_report(run.write(), write_merge_of(run)))
    references = [v for _, attrs in page.elements for k, v in attrs.items() if k in ("src", "href", "action")]
    assert not [reference for reference in references if reference and not reference.startswith("#")]
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "img", "base", "object")]
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_browser_is_told_to_load_nothing(run: Run) -> None:
    page = Page(write_report(run.write(), None))
    policy = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert policy[0] is not None
    assert "default-src 'none'" in policy[0]
    assert "http" not in policy[0]


def test_plotly_is_embedded_once(run: Run) -> None:
    page = Page(write_report(run.write(), None))
    assert page.source.count("* plotly.js v") == 1
    n_scripts = sum(tag == "script" for tag, _ in page.elements)
    assert n_scripts == len(page.plots) + 2  # the library, and the script that draws


def test_page_shows_the_counts_with_their_denominators(run: Run) -> None:
    text = Page(write_report(run.write(), write_merge_of(run))).text
    assert "20 of 40 frames show diffraction" in text
    assert "hit rate 50.0 % of 40 frames" in text
    assert "indexing rate 100.0 % of 20 hits" in text
    assert re.search(r"lattices_merged\s+19\s+of 20 ", text)


def test_merge_with_other_data_sets_is_called_so(run: Run) -> None:
    run.write()
    merge = write_merge_of(run, counts=FrameCounts(frames_total=5000, lattices_indexed=2100))
    text = Page(write_report(run.folder, merge)).text
    assert re.search(r"lattices_merged\s+19\s+of 2100; merged with others, 5000 frames in all", text)


@pytest.mark.parametrize(
    "number", ["0.983", "27.5", "6.31", "0.987", "0.996", "0.083", "23.4", "20.0-2.00 Å"]
)
def test_page_shows_the_statistics_of_the_merge(run: Run, number: str) -> None:
    assert number in Page(write_report(run.write(), write_merge_of(run))).text


def test_shell_table_has_every_shell_and_the_sum(run: Run) -> None:
    text = Page(write_report(run.write(), write_merge_of(run))).text
    assert re.search(
        r"20\.00-3\.00\s+5000\s+100\s+100\s+1\.000\s+50\.0\s+9\.50\s+0\.991\s+0\.998\s+0\.057", text
    )
    assert re.search(r"3\.00-2\.00\s+400\s+80\s+100\s+0\.800\s+5\.0\s+1\.25\s+0\.412\s+0\.764\s+0\.345", text)
    assert re.search(r"20\.00-2\.00\s+5400\s+196\s+200", text)


def test_every_headline_number_explains_itself(run: Run) -> None:
    page = Page(write_report(run.write(), write_merge_of(run)))
    tiles = [attrs for _, attrs in page.elements if "tile" in (attrs.get("class") or "").split()]
    assert len(tiles) >= 15
    assert all(len(tile.get("title") or "") > 20 for tile in tiles)


def test_whole_result_without_warnings_is_called_complete(run: Run) -> None:
    text = Page(write_report(run.write(), write_merge_of(run))).text
    assert "Complete." in text
    assert "Attention" not in text


def test_missing_chunk_is_announced_with_its_reason_and_marked_in_the_table(run: Run) -> None:
    run.skip = (1,)
    folder = run.write()
    reason = "chunk 2 (images 11-20): data_2.h5: truncated"
    text = Page(write_report(folder, write_merge_of(run, missing=(reason,)))).text
    assert "Partial result: 3 of 4 chunks are in it; 10 of 40 frames are missing" in text
    assert text.index(reason) < text.index("frames_total")
    assert re.search(r"11-20\s+MISSING", text)


def test_missing_chunk_is_announced_even_if_nobody_says_why(run: Run) -> None:
    run.skip = (3,)
    assert "chunk 4 (images 31-40): no result" in Page(write_report(run.write(), None)).text


def test_chunk_missing_from_another_data_set_of_the_merge_is_announced(run: Run) -> None:
    run.write()
    merge = write_merge_of(run, chunks_expected=9, missing=("chunk 9 (images 1-10): no such file",))
    text = Page(write_report(run.folder, merge)).text
    assert "Partial result" in text
    assert "chunk 9 (images 1-10): no such file" in text


def test_warnings_of_the_merge_are_shown_once(run: Run) -> None:
    run.write()
    warning = "multiplicity is only 4.4"
    text = Page(write_report(run.folder, write_merge_of(run, warnings=(warning,)))).text
    assert text.count(warning) == 1
    assert "Complete." not in text


def test_names_from_outside_cannot_inject_html(run: Run) -> None:
    evil = '<img src=x onerror="alert(1)">&</script>'
    run.name, run.paths = evil, (f"/visit/{evil}",)
    run.skip = (0,)
    folder = run.write()
    page = Page(
        write_report(folder, None, missing=[evil], merge_problem=evil, facts={evil: evil, "sample": evil})
    )
    assert not [tag for tag, attrs in page.elements if tag == "img" or "onerror" in attrs]
    assert page.text.count('<img src=x onerror="alert(1)">') >= 6


def test_page_without_merge_says_why_and_still_shows_frames_and_cells(run: Run) -> None:
    page = Page(write_report(run.write(), None, merge_problem="none of 20 lattices can be merged"))
    assert "There are no merged intensities" in page.text
    assert "none of 20 lattices can be merged" in page.text
    assert page.has_section("cells")
    assert not page.has_section("merging")


def test_page_without_hits_says_what_to_look_at(run: Run) -> None:
    run.spots = 5
    page = Page(write_report(run.write(), None))
    assert "No hit among 40 frames" in page.text
    assert "No frame has 12 spots or more" in page.text
    assert page.has_section("collection")
    assert not page.has_section("cells")


def test_page_with_hits_but_no_lattice_says_what_to_check(run: Run) -> None:
    run.lattices = False
    page = Page(write_report(run.write(), None))
    assert "None of 20 hits could be indexed" in page.text
    assert not page.has_section("lattices")


def test_page_of_a_single_frame(run: Run) -> None:
    run.n_frames = 1
    page = Page(write_report(run.write(), None))
    assert "1 of 1 frames show diffraction" in page.text
    assert page.has_section("cells")


def test_page_with_all_chunks_missing(run: Run) -> None:
    run.skip = (0, 1, 2, 3)
    assert (
        "0 of 4 chunks are in it; 40 of 40 frames are missing" in Page(write_report(run.write(), None)).text
    )


def test_statistics_that_could_not_be_computed_are_dashes(run: Run) -> None:
    run.write()
    nan = float("nan")
    shell = ShellStatistics(20.0, 2.0, 12, 10, 200, 0.05, 1.2, 1.0, nan, nan, nan)
    page = Page(write_report(run.folder, write_merge_of(run, overall=shell, shells=(shell,), wilson_b=nan)))
    assert re.search(r"cc_half\s+–", page.text)
    assert "nan" not in page.text.lower().split()


def test_unreadable_frames_are_reported(run: Run) -> None:
    run.unreadable = (4, 6, 8)
    text = Page(write_report(run.write(), None)).text
    assert "3 of 40 frames could not be read" in text


def test_page_of_many_frames_is_small(run: Run) -> None:
    run.n_frames, run.frames_per_chunk = 100_000, 20_000
    path = write_report(run.write(), write_merge_of(run))
    assert path.stat().st_size < 8_000_000
    drawn = sum(len(trace["x"]["bdata"]) for trace in Page(path).plots[0]["data"] if "bdata" in trace["x"])
    assert drawn < 20 * MAX_POINTS  # bytes of base64, not of 100 000 points


def test_settings_that_differ_from_the_default_are_marked(run: Run) -> None:
    text = Page(write_report(run.write(), None)).text
    assert re.search(r"spots\.min_spots_for_hit\s+12 \*\s+15", text)
    assert re.search(r"spots\.min_pixels\s+2\s+2", text)


def test_merging_settings_are_those_of_the_merge_not_of_the_plan(run: Run) -> None:
    text = Page(write_report(run.write(), write_merge_of(run))).text
    assert re.search(r"merging\.d_min\s+2\.0 \*\s+automatic", text)


def test_reused_chunks_are_named_as_such(run: Run) -> None:
    run.write()
    text = Page(write_report(run.folder, None, reused=run.keys[:1])).text
    assert re.search(r"1-10\s+reused\s+10", text)
    assert re.search(r"11-20\s+done\s+10", text)


def test_lattices_know_whether_they_were_merged(run: Run) -> None:
    run.write()
    data = read_report_data(run.folder, write_merge_of(run))
    assert len(data.lattices) == 20
    assert data.lattices["merged"].sum() == 19


def test_rates_of_a_bin_have_the_right_denominators() -> None:
    status = ["integrated", "no_hit", "not_indexed", "unreadable"] + ["no_hit"] * 4
    frames = pd.DataFrame({"frame": range(8), "status": status, "median_background": 1.0})
    middle, rates = binned_rates(frames, 12, 4)
    assert middle.tolist() == [2.5, 6.5, 10.5]
    assert rates["hit_rate"] == [0.5, 0.0, None]
    assert rates["indexing_rate"] == [0.5, None, None]
    assert rates["unreadable_rate"] == [0.25, 0.0, None]
    assert rates["hit_rate_text"][0] == "2 of 4 frames"


def test_outliers_do_not_squeeze_a_histogram(rng: np.random.Generator) -> None:
    edges = value_bins(np.append(rng.normal(79.0, 0.1, 500), 1e4), (79.3,))
    assert edges[0] < 78.8 < 79.3 <= edges[-1] < 80.0


def test_report_replaces_an_older_page_and_leaves_nothing_beside_it(run: Run) -> None:
    folder = run.write()
    path = write_report(folder, None)
    path.write_text("old")
    assert write_report(folder, None) == folder / "report.html"
    assert path.stat().st_size > 1_000_000
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_folder_without_plan_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ChunkError, match=r"plan\.json: not readable.*process the images first"):
        write_report(tmp_path, None)
