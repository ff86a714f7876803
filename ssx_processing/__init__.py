"""Frames in, merged intensities out; runs without Prefect and without ISPyB.

``pipeline`` puts ``kernels`` and ``formats`` in order: start reading at
``pipeline/process_chunk.py``.
"""

__version__ = "0.1.0"
