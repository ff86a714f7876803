"""Answers of iotbx.merging_statistics in ten shells, Friedel mates together and apart; prints answers.json.

/usr/bin/python3 make_answers.py FOLDER_OF_MTZ > answers.json      (Debian's python3-dials)
"""

# pyright: reportMissingImports=false
# it runs with the Python of DIALS

import json
import sys
from pathlib import Path

from cctbx import miller
from iotbx import mtz
from iotbx.merging_statistics import dataset_statistics

NAMES = {
    "n_obs": "n_observations",
    "n_uniq": "n_reflections",
    "completeness": "completeness",
    "i_over_sigma_mean": "mean_i_over_sigma",
    "r_merge": "r_merge",
    "r_meas": "r_meas",
    "r_pim": "r_pim",
    "cc_one_half": "cc_half",
    "cc_anom": "cc_anomalous",
    "anom_completeness": "anomalous_completeness",
}
FILES = ("gamma_HKLOUT_unmerged", "dials_scratch_AUTOMATIC_DEFAULT_scaled_unmerged_1")


def answers(path: Path, anomalous: bool) -> list[dict]:
    """Figures of all data, then of each shell."""
    content = mtz.object(str(path))
    symmetry = content.crystals()[0].crystal_symmetry()
    hkl = content.extract_original_index_miller_indices()
    intensity, sigma = (content.get_column(name).extract_values().as_double() for name in ("I", "SIGI"))
    array = miller.array(miller.set(symmetry, hkl, anomalous_flag=True), intensity, sigma)
    array.set_observation_type_xray_intensity()
    array = array.select(~array.sys_absent_flags().data())
    with Path("/dev/null").open("w") as nowhere:
        found = dataset_statistics(
            array, n_bins=10, anomalous=anomalous, assert_is_not_unique_set_under_symmetry=False, log=nowhere
        )
    return [{ours: getattr(s, name) for name, ours in NAMES.items()} for s in (found.overall, *found.bins)]


folder = Path(sys.argv[1])
result = {
    name: {mode: answers(folder / f"{name}.mtz", mode == "apart") for mode in ("together", "apart")}
    for name in FILES
}
sys.stdout.write(json.dumps(result, separators=(",", ":")).replace("},{", "},\n{") + "\n")
