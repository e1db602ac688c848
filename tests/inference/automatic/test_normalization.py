import numpy as np
import pytest
from helpers.nnunet_reference import STATISTICS
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.normalization import default_normalization_schemes as nnunet

from nnsam.errors import InputError
from nnsam.inference.automatic.preprocessing import SCHEMES, normalize, uses_mask


def view(seed, order, colours=False):
    """A cut of a transposed array: sums run over it in an order of their own."""
    generator = np.random.default_rng(seed)
    image = generator.gamma(2, 30, (7, 40, 33)).clip(0, 255).astype(np.float32)
    return (image.round() if colours else image - 5).transpose(order)[1:-1, 2:, :-3]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(st.integers(0, 2**32), st.permutations([0, 1, 2]), st.booleans(), st.booleans())
def test_values_are_nnunets_to_the_last_bit(scheme, seed, order, use_mask, constant):
    image, other = (view(seed, order, "RGB" in scheme) for _ in range(2))
    if constant:
        image[...] = other[...] = 7
    mask = np.random.default_rng(seed).random(image.shape) < 0.7
    normalizer = getattr(nnunet, scheme)(use_mask_for_norm=use_mask, intensityproperties=STATISTICS)
    expected = normalizer.run(other, np.where(mask, 0, -1))
    normalize(image, {"scheme": scheme, "use_mask": use_mask, "statistics": STATISTICS}, mask)
    assert image.dtype == expected.dtype == np.float32
    assert np.array_equal(image, expected)


def test_the_order_of_sums_matters_so_that_the_layout_must_be_kept():
    image = view(0, (2, 0, 1))
    assert any(view(seed, (2, 0, 1)).mean() != view(seed, (2, 0, 1)).copy().mean() for seed in range(50))
    assert np.isclose(image.mean(), image.copy().mean())


def test_z_scores_of_an_empty_mask_change_nothing():
    image = np.zeros((2, 3, 4), dtype=np.float32)
    normalize(image, {"scheme": "ZScoreNormalization", "use_mask": True}, np.zeros(image.shape, dtype=bool))
    assert not image.any()


def test_only_masked_z_scores_need_the_mask():
    assert uses_mask({"scheme": "ZScoreNormalization", "use_mask": True})
    assert not uses_mask({"scheme": "ZScoreNormalization", "use_mask": False})
    assert not uses_mask({"scheme": "CTNormalization", "use_mask": True})


@pytest.mark.parametrize("value", [-1, 256])
def test_colours_beyond_8_bits_are_refused(value):
    image = np.full((1, 2, 2), value, dtype=np.float32)
    with pytest.raises(InputError, match=f"from {value} to {value}.*convert the image to 8 bits"):
        normalize(image, {"scheme": "RGBTo01Normalization"})


def test_an_unknown_scheme_is_named():
    with pytest.raises(InputError, match="HistogramNormalization, which nnsam does not know"):
        normalize(np.zeros((1, 2, 2), dtype=np.float32), {"scheme": "HistogramNormalization"})
