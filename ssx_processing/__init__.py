"""Frames in, merged intensities out; runs without Prefect and without ISPyB.

``pipeline`` puts ``kernels`` and ``formats`` in order: start reading at
``pipeline/process_chunk.py``.
"""

from ssx_processing.compilation import keep_compiled_kernels

__version__ = "0.1.0"

keep_compiled_kernels()  # before any kernel is imported, and numba with it
