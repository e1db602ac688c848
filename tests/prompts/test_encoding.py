import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.geometry.boxes import rasterize
from nnsam.prompts.encoding import ENCODINGS, encode_box


def test_binary_is_the_box():
    channels = encode_box([1, 2, 3, 6], (5, 7))
    assert channels.dtype == np.float32
    assert channels.shape == (1, 5, 7)
    assert (channels[0] == rasterize([1, 2, 3, 6], (5, 7))).all()


def test_the_ellipse_is_zero_on_the_inscribed_ellipse_and_one_at_the_centre():
    box = (20, 30, 121, 231)
    channels = encode_box(box, (150, 300), "ellipse")
    assert (channels[0] == encode_box(box, (150, 300))[0]).all()
    assert channels[1, 70, 130] == pytest.approx(1)
    positive = (channels[1] > 0).sum()
    assert positive == pytest.approx(np.pi / 4 * 101 * 201, rel=2e-3)  # the area of an ellipse
    assert channels[1][~rasterize(box, (150, 300))].max() == 0
    assert channels[1].min() == pytest.approx(-1, abs=0.06)  # the corners


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_prompt_is_zero(encoding):
    for box in (None, [50, 50, 60, 60], [3, 3, 3, 3]):
        channels = encode_box(box, (8, 9), encoding)
        assert channels.shape == (ENCODINGS[encoding], 8, 9)
        assert not channels.any()


def test_a_box_that_reaches_beyond_the_patch_is_cut_not_moved():
    whole = encode_box([2, 2, 12, 14], (20, 20), "ellipse")
    cut = encode_box([2 - 5, 2 - 6, 12 - 5, 14 - 6], (15, 14), "ellipse")
    assert (cut == whole[:, 5:, 6:]).all()


def test_unknown_encodings_are_refused():
    with pytest.raises(InputError, match="binary or ellipse"):
        encode_box([0, 0, 1, 1], (4, 4), "gaussian")
