"""Still images with a known answer, for the demo, the tests and the benchmarks.

Start reading at ``chip.py``; ``still.py`` has the physics of one diffraction pattern. Nothing here
uses the kernels: what they assume about partiality and spot shape is not what is simulated.
"""
