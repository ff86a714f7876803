"""Columns of the tables of a chunk."""

SPOT_COLUMNS = ("x_px", "y_px", "intensity", "snr", "peak_snr", "background", "peak_value")
A_COLUMNS = ("a11", "a12", "a13", "a21", "a22", "a23", "a31", "a32", "a33")
CELL_COLUMNS = ["a", "b", "c", "alpha", "beta", "gamma"]
COLUMN_TYPES: dict[str, dict[str, str]] = {
    "frames": {
        "frame": "int64", "status": "str", "misfit": "str", "n_spots": "int32", "n_lattices": "int32",
        "file": "str", "file_index": "int64", "total_intensity": "float64", "median_background": "float32",
        "resolution_estimate": "float32",
    },
    "spots": {
        "frame": "int64", **dict.fromkeys(SPOT_COLUMNS, "float32"), "n_pixels": "int32",
        "n_saturated": "int32", "panel": "int16", "lattice": "int16", "h": "int16", "k": "int16",
        "l": "int16", "dx_px": "float32", "dy_px": "float32", "excitation_error": "float32",
    },
    "lattices": {
        "frame": "int64", "lattice": "int16", **dict.fromkeys((*A_COLUMNS, *CELL_COLUMNS), "float64"),
        "n_indexed": "int32", "n_spots": "int32", "rmsd_px": "float32", "log10_e": "float32",
        "runner_up_gap": "float32", "split_deg": "float32", "excitation_width": "float32",
        "resolution_limit": "float32", "n_observations": "int32",
    },
    "observations": {
        "frame": "int64", "lattice": "int16", "h": "int16", "k": "int16", "l": "int16",
        "intensity": "float32", "sigma": "float32", "background": "float32", "x_px": "float32",
        "y_px": "float32", "excitation_error": "float32", "excitation_sigma": "float32",
        "noise_variance": "float32", "fraction": "float32", "flags": "uint8",
    },
}  # fmt: skip
"""Columns and types of each table: also of an empty one."""
