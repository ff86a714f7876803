"""What the numbers on the page mean, in words for people who are no experts."""

from dataclasses import dataclass

from ssx_processing.models import Misfit


@dataclass(frozen=True)
class Word:
    """A number's name on the page, what it is, and what good looks like."""

    label: str
    definition: str
    good: str = ""

    @property
    def tooltip(self) -> str:
        """Both in one line."""
        return f"{self.definition} {self.good}".strip()


WORDS = {
    "frames_total": Word("frames", "Exposures looked at; those that could not be read are counted."),
    "frames_unreadable": Word("unreadable", "Frames whose pixels could not be read.", "Should be 0."),
    "frame_hits": Word("hits", "Frames with at least as many Bragg spots as the hit threshold."),
    "hit_rate": Word(
        "hit rate",
        "frame_hits / frames_total.",
        "Depends on how the chip was loaded; 10-60 % is common. Much above that, many frames hold several "
        "crystals.",
    ),
    "frames_indexed": Word("indexed", "Hits on which at least one lattice was found."),
    "indexing_rate": Word(
        "indexing rate",
        "frames_indexed / frame_hits.",
        "Above 80 % is good; below 50 % suspect the unit cell, the beam centre or the distance.",
    ),
    "lattices_indexed": Word(
        "lattices found",
        "Orientations found on all frames; a frame with two crystals has two.",
    ),
    "lattices_merged": Word(
        "lattices merged",
        "Lattices whose observations are in the merged intensities; the others were left out for a reason "
        "given below.",
    ),
    "resolution": Word(
        "resolution",
        "Limits of the merged data in Å. Unless a limit was asked for, the data end where CC1/2 or "
        "completeness become too low: merging.cc_half_limit, merging.min_completeness.",
        "The smaller the second number, the finer the detail.",
    ),
    "completeness": Word(
        "completeness",
        "Unique reflections measured / unique reflections possible; a fraction.",
        "0.99 or more, also in the outermost shell.",
    ),
    "multiplicity": Word(
        "multiplicity",
        "Observations merged / unique reflections measured.",
        "Stills record parts of reflections, so tens to hundreds are wanted; below 10 intensities are poor.",
    ),
    "cc_half": Word(
        "CC1/2",
        "Correlation between intensities merged from two random halves of the lattices.",
        "Near 1 overall; 0.3 is a usual limit for the outermost shell.",
    ),
    "cc_star": Word(
        "CC*",
        "sqrt(2 CC1/2 / (1 + CC1/2)): estimated correlation of the merged intensities with the true ones.",
        "Near 1 overall.",
    ),
    "r_split": Word(
        "Rsplit",
        "Relative difference between the two halves: sum |I1 - I2| / (sqrt(2) * 0.5 sum (I1 + I2)).",
        "Below 0.1 overall is very good, 0.1-0.25 usual; it falls as more lattices are merged.",
    ),
    "r_merge": Word(
        "Rmerge",
        "sum |I - mean| / sum I over the observations of each reflection.",
        "Of stills large, also for good data: observations are parts of reflections. Only for comparing.",
    ),
    "r_meas": Word("Rmeas", "Rmerge corrected for the multiplicity: deviations times sqrt(n / (n - 1))."),
    "r_pim": Word(
        "Rpim",
        "Precision of the merged intensities: deviations times sqrt(1 / (n - 1)).",
        "Falls as more lattices are merged.",
    ),
    "cc_anomalous": Word(
        "CCanom",
        "Correlation of the differences between Friedel mates of two random halves of the lattices.",
        "Above 0.3 there is an anomalous signal to use; near 0 there is none.",
    ),
    "anomalous_completeness": Word(
        "anom. complete",
        "Acentric reflections with both Friedel mates measured / acentric reflections possible.",
        "0.95 or more.",
    ),
    "growth": Word(
        "growth",
        "Statistics of the first lattices, in the order of collection. More lattices are expected to bring "
        "1 / CC1/2 - 1 down as 1 / number (Spearman and Brown).",
    ),
    "cc_difference": Word(
        "CC of differences",
        "Correlation of the intensity differences between two subsets, from two separate halves of the "
        "lattices.",
        "0 if there is nothing but noise, as in a random split.",
    ),
    "r_iso": Word(
        "Riso",
        "sum |F1 - F2| / (0.5 sum (F1 + F2)) between two sets of data on one scale.",
        "That of a random split is noise; 0.05-0.15 more is a change of structure, 0.3 another crystal form.",
    ),
    "cc_reference": Word(
        "CC to the reference",
        "Correlation of the merged intensities with those of the reference, resolution by resolution.",
        "Above 0.9 overall for the same structure; a low one everywhere is the wrong setting or crystal.",
    ),
    "mean_i_over_sigma": Word(
        "<I/σ>",
        "Mean of merged intensity over its standard error.",
        "Above 1 in the outermost shell.",
    ),
    "wilson_b": Word(
        "Wilson B",
        "How fast intensities fall with resolution, in Å².",
        "10-40 Å² is common for proteins; a negative value points to a wrong cell content or too few data.",
    ),
    "unit_cell": Word(
        "unit cell",
        "Median over the merged lattices: a b c in Å, alpha beta gamma in degrees.",
    ),
    "space_group": Word("space group", "As given with the sample; it is not determined from the data."),
    "n_observations": Word("observations", "Single measurements of reflections that were merged."),
    "n_reflections": Word("unique", "Unique reflections measured."),
    "n_possible": Word("possible", "Unique reflections that cell and space group allow in the shell."),
    "resolution_limit": Word(
        "resolution estimate",
        "To where the spots of one lattice are seen, in Å.",
    ),
    "rmsd_px": Word(
        "rmsd of spots",
        "Root mean square distance between observed and predicted spots of a lattice, in pixels.",
        "Below 1 pixel is good; above 2 suspect the geometry.",
    ),
    "fraction_indexed": Word(
        "spots explained",
        "Spots of the frame that the lattice explains / spots of the frame.",
        "Near 1 with one crystal on the frame.",
    ),
    "scale": Word("scale", "Factor between a lattice's observations and the merged intensities."),
    "b_factor": Word(
        "relative B",
        "By how much a lattice's intensities fall off faster (positive) than the average, in Å².",
    ),
    "cc": Word("CC to merged", "Correlation of a lattice's observations with the merged intensities."),
    "cpu_per_frame": Word("CPU s / frame", "CPU seconds of one core per frame, when the chunk was computed."),
}
"""By the name that code, tables and wwPDB use."""


@dataclass(frozen=True)
class MisfitWord:
    """A reason why a hit was not indexed, what it means, and what to do."""

    label: str
    meaning: str
    advice: str


MISFITS = {
    Misfit.TOO_FEW_SPOTS: MisfitWord(
        "too few spots",
        "Fewer spots than a lattice must explain (indexing.min_spots).",
        "Weak crystals: lower spots.min_snr, or accept it.",
    ),
    Misfit.NO_SOLUTION: MisfitWord(
        "no solution",
        "No orientation of the expected cell explains more spots than chance would.",
        "If it is most of the hits: check cell, distance and beam centre. Else ice, several crystals or "
        "salt: look at some with ssx view --lattice.",
    ),
    Misfit.AMBIGUOUS: MisfitWord(
        "second solution too near",
        "Two different orientations explain the spots about as well, so neither is believed.",
        "Common with few spots and with cells that look like another after a turn (a about 2c); more spots "
        "on a frame decide it.",
    ),
    Misfit.CELL_DIFFERS: MisfitWord(
        "another cell",
        "The refined cell is further from the expected one than indexing.cell_tolerance.",
        "Correct the cell, or the distance if all axes are off by the same share.",
    ),
    Misfit.DIVERGED: MisfitWord(
        "refinement diverged",
        "After refinement the predicted positions do not fit, or too few spots are left.",
        "A few are normal. Many: the geometry is off by pixels, or crystals are split.",
    ),
}
"""In the order in which they are listed."""
UNKNOWN_MISFIT = MisfitWord(
    "not known", "Processed before reasons were kept, or by CrystFEL.", "Process the images again."
)
