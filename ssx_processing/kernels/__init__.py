"""Pure functions from arrays to arrays, compiled by numba where it pays.

In the order the pipeline calls them:

============================  ==========================================================
geometry                      pixel <-> laboratory <-> reciprocal space
rings, ring_statistics        what is above background, by rings of equal resolution
spot_finding, spot_measuring  strong pixels -> spots of one frame
hot_pixels                    pixels that are strong without spots
unit_cell                     cell <-> B matrix, lattice symmetry, strains it allows
pair_search, axis_search      two ways to propose orientations for a known cell
lattice_score                 how well an orientation explains spots, and how likely that is by chance
refinement, proposals         make proposals fit, keep the different ones
spot_choice, indexing         the strategy: several lattices on one frame
prediction, integration       which reflections are in diffracting condition, and their sums
symmetry                      hkl -> asymmetric unit
reindexing                    other ways to index a lattice, applied to hkl
normalised_amplitudes         what tells one way from another
setting_embedding, ambiguity  the way of each lattice, with setting_scores
scaling, error_model          scale and B of each lattice, true size of the errors
merging, statistics           observations of all frames -> merged intensities and their quality
agreement, anomalous          R factors, CC1/2 and its error; Friedel mates
repeats                       statistics of unmerged files of others, as iotbx's
delta_cc, growth              what each lattice does to CC1/2; what more lattices would bring
differences, relative_scale   two sets of intensities compared
lattice_hash                  chance that depends on nothing but what a lattice is
============================  ==========================================================

No files, no logging, no settings objects in here. One thread each; the GIL is released.
"""
