"""Columns and flags of what integration knows of each reflection."""

FLAG_OVERLAP = 1
"""Other reflections cover too much of it: the intensity is not known well enough."""
FLAG_BAD_PIXEL = 2
"""Too much of it is masked or outside the panel: the intensity is not known."""
FLAG_SATURATED = 4
"""A pixel of the mask is saturated."""
FLAG_BACKGROUND = 8
"""Too few background pixels: the intensity is not known."""
FLAG_SHARED = 16
"""Some pixels are also in other masks; each was given its part by the profile. Good for merging."""
FLAG_INCOMPLETE = 32
"""Some pixels are masked or outside; made up for by the profile. Good for merging."""
REJECTED_FLAGS = FLAG_OVERLAP | FLAG_BAD_PIXEL | FLAG_SATURATED | FLAG_BACKGROUND
"""A reflection with one of these is not to be merged."""

INTENSITY, SIGMA, BACKGROUND, PEAK, FLAGS, NOISE, FRACTION = range(7)
"""Columns of the result: see `integration.integrate_reflections`."""

N_RING, SPREAD, LEVERAGE, SLOPE_X, SLOPE_Y, FOREIGN, FOREIGN_VARIANCE, MODEL_ERROR = range(8)
"""Columns of what is known on the way: pixels of the background, their variance about it (counts²), its
own variance in units of that, its slopes (counts/px); counts of other reflections among those summed, the
variance of what they were taken to be, and relative error of what was made up for."""
AREA, REACH, SIGNAL, EMPTY_AREA, EMPTY_REACH = 8, 9, 10, 11, 12
"""More of them, of an intensity sum c (v - b) over pixels v: sum c², sum c, sum c² of the photons of the
reflection itself, and the first two for an empty one. Where all c are 1: pixels, pixels, 1."""
N_KNOWN = 13
