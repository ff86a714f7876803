"""What a chunk may take before it is ended."""

from pydantic import BaseModel, ConfigDict, PositiveFloat


class ChunkLimits(BaseModel):
    """Limits of one chunk; the process that computes it is killed beyond them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    seconds: PositiveFloat | None = 3600.0
    """Wall time; none: not limited."""
    memory_gb: PositiveFloat | None = None
    """Resident memory of the worker process, local engine only; Dask and Slurm have limits of their own."""
