"""The independent implementation that surface metrics are compared with."""

import warnings

import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture
def oracle(monkeypatch):
    """DeepMind's package; its release 0.1 still calls names that NumPy 2 has dropped and SciPy deprecates."""
    package = pytest.importorskip("surface_distance")
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    monkeypatch.setattr(np, "NaN", np.nan, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if not hasattr(ndimage, "filters") or not hasattr(ndimage, "morphology"):
            pytest.skip("surface-distance 0.1 calls scipy.ndimage.filters and .morphology, which this SciPy lacks")
        yield package
