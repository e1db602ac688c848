import numpy as np
import pytest

from nnsam.geometry.boxes import box_of_mask
from nnsam.prompts.sampling import class_mask, components, random_component


@pytest.fixture
def mask():
    """A square of 25 pixels, one of 16, a speck of one pixel."""
    mask = np.zeros((20, 20), bool)
    mask[1:6, 1:6] = mask[10:14, 10:14] = mask[18, 18] = True
    return mask


def test_pixels_that_share_a_corner_are_connected():
    assert components(np.eye(4, dtype=bool))[1] == 1
    apart = np.zeros((4, 4), bool)
    apart[0, 0] = apart[0, 2] = True
    assert components(apart)[1] == 2


def test_components_are_equally_likely_whatever_their_size_and_specks_are_left_out(mask):
    rng = np.random.default_rng(0)
    sizes = [int(random_component(mask, rng).sum()) for _ in range(400)]
    assert set(sizes) == {25, 16}
    assert 150 < sizes.count(25) < 250


def test_the_chosen_component_is_whole_and_within_its_box(mask):
    chosen = random_component(mask, np.random.default_rng(1))
    y0, x0, y1, x1 = box_of_mask(chosen)
    assert (mask[y0:y1, x0:x1] == chosen[y0:y1, x0:x1]).all()
    assert not (chosen & ~mask).any()


def test_a_mask_of_specks_gives_the_largest():
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = mask[4, 4:7] = True
    assert random_component(mask, np.random.default_rng(0)).sum() == 3


def test_an_empty_mask_has_no_component():
    with pytest.raises(ValueError, match="empty"):
        random_component(np.zeros((3, 3), bool), np.random.default_rng(0))


def test_regions_unite_labels():
    labels = np.array([[0, 1, 2, 3]])
    assert class_mask(labels, 2).tolist() == [[False, False, True, False]]
    assert class_mask(labels, (1, 3)).tolist() == [[False, True, False, True]]
