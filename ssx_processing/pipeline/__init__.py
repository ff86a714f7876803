"""Kernels and formats put in order; one process each, no orchestration. Start at ``process_chunk.py``."""
