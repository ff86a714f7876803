import numpy as np
import pytest
from scipy.stats import binom

from ssx_processing.kernels.binomial_tail import log10_binomial_tail


@pytest.mark.parametrize(("n", "k", "p"), [(20, 5, 0.027), (250, 60, 0.008), (60, 60, 0.0017), (10, 1, 0.3)])
def test_binomial_tail_agrees_with_scipy(n, k, p):
    assert log10_binomial_tail(n, k, p) == pytest.approx(binom.logsf(k - 1, n, p) / np.log(10), rel=1e-9)


def test_no_success_is_as_likely_as_can_be():
    assert log10_binomial_tail(50, 0, 0.01) == 0.0
