"""Which thresholds, and how many spots for a hit, the spots of some frames speak for.

Blanks are frames with next to no spots at the strictest thresholds; what the others find on them is
false. For each point of the grid the cut stands safely above these false spots, and the thresholds
with most hits above their cut win.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ssx_processing.pipeline.tuning import Thresholds, ThresholdScan

FEWEST_BLANKS, FEWEST_HITS = 3, 3
"""With fewer of them nothing is recommended."""
STRICT_SPOTS = 1
"""A blank has at most so many spots at the strictest thresholds."""
LEAST_CUT = 8
"""No cut below this: hardly a frame with fewer spots can be indexed."""
SIGMAS, MARGIN = 6.0, 2
"""A safe cut is so many standard deviations, and so many spots, above the mean of the blanks."""
TOLERANCE = 0.02
"""Hits within this share of the most are as good; then fewer false spots decide."""


@dataclass(frozen=True)
class PointJudgement:
    """One point of the grid."""

    thresholds: Thresholds
    false_spots: float
    """Mean number of spots on a blank; nan if there are too few blanks."""
    safe_cut: int
    """Fewest spots that a blank will not have; 0 if there are too few blanks."""
    cut: int = 0
    """That the hits are counted with: the safe one, or that of the settings where there is none."""
    n_hits: int = 0
    """Frames at or above the cut, ice left out."""
    n_icy_hits: int = 0
    """Frames at or above it that look like ice."""
    spots_per_hit: float = math.nan
    """Median over the hits; nan without any."""


@dataclass(frozen=True)
class Recommendation:
    """What to set, or why nothing can be said."""

    points: tuple[PointJudgement, ...]
    """One for each point of the grid."""
    now: PointJudgement
    """With the settings that the scan started from, and their cut."""
    best: PointJudgement | None
    """With the cut that is recommended; None if there is no recommendation."""
    best_point: int
    """Its place in ``points``; that of the settings without a recommendation."""
    options: tuple[str, ...]
    """For the command line; empty if the settings are fine or nothing can be said."""
    reasons: tuple[str, ...]
    """In sentences."""


def recommend(scan: ThresholdScan) -> Recommendation:
    """Thresholds and cut that find most hits while blanks stay well below the cut."""
    blank = blanks(scan)
    points = tuple(_judge(scan, point, blank) for point in range(len(scan.thresholds)))
    cut_now = scan.settings.min_spots_for_hit
    now = _with_cut(scan, points[scan.now], scan.now, cut_now)
    most = max(point.n_hits for point in points)
    problem = _problem(scan, int(blank.sum()), most)
    if problem:
        return Recommendation(points, now, None, scan.now, (), (problem, *_left_out(scan)))
    place = _best(scan, points, now)
    keep = place == scan.now and now.n_hits >= (1 - TOLERANCE) * points[place].n_hits
    safe = cut_now >= points[place].safe_cut
    cut = cut_now if keep and safe else _cut_in_valley(scan, points[place], place)
    best = _with_cut(scan, points[place], place, cut)
    options = best.thresholds.options(now.thresholds)
    if cut != cut_now:
        options.append(f"--set spots.min_spots_for_hit={cut}")
    return Recommendation(points, now, best, place, tuple(options), _reasons(scan, now, best, blank))


def _problem(scan: ThresholdScan, n_blanks: int, most_hits: int) -> str:
    """Why nothing can be recommended; empty if something can."""
    n = len(scan.frames)
    if n_blanks < FEWEST_BLANKS:
        return (
            f"Too few blanks, nothing to recommend: {n_blanks} of {n} frames have next to no spots, and "
            "without blanks false spots cannot be told from weak ones."
        )
    if most_hits < FEWEST_HITS:
        return (
            f"Too few hits, nothing to recommend: {most_hits} of {n} frames have more spots than blanks "
            "have, at any thresholds tried."
        )
    return ""


def blanks(scan: ThresholdScan) -> NDArray[np.bool_]:
    """(n,) frames with next to no spots at the strictest thresholds, and no ice at any."""
    strictest = max(range(len(scan.thresholds)), key=lambda i: scan.thresholds[i])
    return (scan.n_spots[strictest] <= STRICT_SPOTS) & ~scan.is_icy.any(axis=0)


def false_spots(n_spots: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation of the lower mode of spots per frame: weak hits among blanks are left out.

    Examples
    --------
    >>> false_spots(np.array([0, 1, 0, 2, 1, 0, 9, 14]))[0]
    0.6666666666666666
    """
    middle = float(np.median(n_spots))
    inside = n_spots
    for _ in range(5):
        inside = n_spots[n_spots <= middle + 4 * math.sqrt(middle) + MARGIN]
        middle = float(inside.mean()) if inside.size else 0.0
    return middle, max(math.sqrt(middle), float(inside.std()) if inside.size else 0.0)


def _judge(scan: ThresholdScan, point: int, blank: NDArray[np.bool_]) -> PointJudgement:
    """One point with its safe cut, or that of the settings where there are too few blanks."""
    if int(blank.sum()) < FEWEST_BLANKS:
        unknown = PointJudgement(scan.thresholds[point], math.nan, 0)
        return _with_cut(scan, unknown, point, scan.settings.min_spots_for_hit)
    mean, deviation = false_spots(scan.n_spots[point][blank])
    cut = max(LEAST_CUT, math.ceil(mean + SIGMAS * deviation + MARGIN))
    return _with_cut(scan, PointJudgement(scan.thresholds[point], mean, cut), point, cut)


def _with_cut(scan: ThresholdScan, judged: PointJudgement, point: int, cut: int) -> PointJudgement:
    """The same point with another cut."""
    hit, icy = scan.is_hit(point, cut), scan.is_icy[point]
    good = hit & ~icy
    spots = float(np.median(scan.n_spots[point][good])) if good.any() else math.nan
    n_hits, n_icy_hits = int(good.sum()), int((hit & icy).sum())
    return replace(judged, cut=cut, n_hits=n_hits, n_icy_hits=n_icy_hits, spots_per_hit=spots)


def _best(scan: ThresholdScan, points: tuple[PointJudgement, ...], now: PointJudgement) -> int:
    """Most hits, no more ice among them than now; of equals the least change, then fewest false spots."""
    dry = [i for i, point in enumerate(points) if point.n_icy_hits <= now.n_icy_hits] or [scan.now]
    most = max(points[i].n_hits for i in dry)
    here = points[scan.now]
    is_safe = scan.settings.min_spots_for_hit >= here.safe_cut
    if is_safe and now.n_hits >= (1 - TOLERANCE) * most:
        return scan.now
    good = [i for i in dry if points[i].n_hits >= max((1 - TOLERANCE) * most, min(now.n_hits, most))]

    def preference(i: int) -> tuple[int, float, float]:
        changes = len(points[i].thresholds.options(here.thresholds))
        return changes, points[i].false_spots, -points[i].spots_per_hit

    return min(good, key=preference)


def _cut_in_valley(scan: ThresholdScan, best: PointJudgement, point: int) -> int:
    """Between the safe cut and the weakest hit, no further up than the settings' cut."""
    n_spots = scan.n_spots[point][scan.is_hit(point, best.safe_cut) & ~scan.is_icy[point]]
    weakest = int(n_spots.min()) if n_spots.size else best.safe_cut
    middle = round(math.sqrt(best.safe_cut * weakest))
    return max(best.safe_cut, min(middle, scan.settings.min_spots_for_hit))


def _reasons(
    scan: ThresholdScan, now: PointJudgement, best: PointJudgement, blank: NDArray[np.bool_]
) -> tuple[str, ...]:
    n = len(scan.frames)
    reasons = [
        f"{blank.sum()} of {n} frames are taken for blanks: at most {STRICT_SPOTS} spot at the strictest "
        "thresholds.",
        f"With the settings as they are a blank has {now.false_spots:.2f} false spots on average, and "
        f"{now.n_hits} of {n} frames are hits, with {now.spots_per_hit:.0f} spots each (median).",
    ]
    if best == now:
        reasons.append("Nothing tried finds clearly more hits as safely: the settings are fine.")
    else:
        reasons.append(
            f"Recommended: {best.false_spots:.2f} false spots on a blank, safely below a cut of "
            f"{best.cut}, and {best.n_hits} hits with {best.spots_per_hit:.0f} spots each."
        )
    if now.n_icy_hits:
        reasons.append(f"{now.n_icy_hits} frames are hits now though most of their spots lie on ice rings.")
    if scan.n_hot_pixels:
        reasons.append(f"{scan.n_hot_pixels} hot pixels were left out, as the processing will do.")
    return (*reasons, *_left_out(scan))


def _left_out(scan: ThresholdScan) -> tuple[str, ...]:
    """That some frames say nothing because they could not be read."""
    if not scan.n_unreadable:
        return ()
    wanted = len(scan.frames) + scan.n_unreadable
    return (f"{scan.n_unreadable} of {wanted} frames could not be read and are left out.",)
