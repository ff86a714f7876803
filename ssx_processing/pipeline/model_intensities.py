"""Intensities of a model with bulk solvent, scaled to measured ones: gemmi does the work."""

import gemmi
import numpy as np
from numpy.typing import NDArray

from ssx_processing.formats.reference_intensities import ReferenceIntensities

_SAMPLING = 1.5
_MASK_SPACING = 0.6  # Å, finest needed for the solvent mask


class ModelIntensities:
    """Structure factors of a model and of its solvent mask to one resolution."""

    def __init__(self, structure: gemmi.Structure, d_min: float) -> None:
        group = structure.find_spacegroup()
        if group is None:
            raise ValueError("a model without a space group")
        self._group, self._cell, self._name = group, structure.cell, structure.name
        calculator = gemmi.DensityCalculatorX()
        calculator.d_min, calculator.rate = d_min, _SAMPLING
        calculator.set_refmac_compatible_blur(structure[0])
        calculator.grid.setup_from(structure)
        calculator.put_model_density_on_grid(structure[0])
        atoms = gemmi.transform_map_to_f_phi(calculator.grid, half_l=True)
        self._atoms = atoms.prepare_asu_data(dmin=d_min, unblur=calculator.blur)
        grid = gemmi.FloatGrid()
        grid.setup_from(structure, spacing=min(_MASK_SPACING, d_min / 2 - 1e-9))
        gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx).put_mask_on_float_grid(grid, structure[0])
        self._mask = gemmi.transform_map_to_f_phi(grid, half_l=True).prepare_asu_data(dmin=d_min)

    def scaled_to(
        self, hkl: NDArray[np.int32], intensity: NDArray[np.float64], sigma: NDArray[np.float64]
    ) -> ReferenceIntensities:
        """Model intensities with the bulk solvent and anisotropic scale that fit the measured ones best."""
        amplitude = np.sqrt(np.maximum(intensity, 0.0))
        error = sigma / (2 * np.maximum(amplitude, np.sqrt(sigma)))
        good = np.isfinite(amplitude) & (error > 0)
        pairs = np.column_stack([amplitude, error])[good].astype(np.float32)
        observed = gemmi.ValueSigmaAsuData(self._cell, self._group, hkl[good], pairs)
        observed.ensure_asu()
        observed.ensure_sorted()
        scaling = gemmi.Scaling(self._cell, self._group)
        scaling.use_solvent = True
        scaling.prepare_points(self._atoms, observed, self._mask)
        scaling.fit_isotropic_b_approximately()
        scaling.fit_parameters()
        calculated = self._atoms.copy()
        scaling.scale_data(calculated, self._mask)
        a, b, c, alpha, beta, gamma = self._cell.parameters
        return ReferenceIntensities(
            source=f"F of the model {self._name}",
            unit_cell=(a, b, c, alpha, beta, gamma),
            space_group=self._group.xhm(),
            hkl=np.asarray(calculated.miller_array, np.int32),
            intensity=np.abs(np.asarray(calculated.value_array, np.complex128)) ** 2,
        )
