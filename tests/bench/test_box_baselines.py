import sys

import numpy as np
import pytest

from nnsam.bench.box.accuracy import grabcut, inscribed_ellipse
from nnsam.errors import InputError, SetupError
from nnsam.geometry.boxes import box_of_mask, slices
from nnsam.metrics import dice


@pytest.mark.parametrize("box", [[3, 10, 143, 71], [0, 0, 90, 160], [20, 30, 121, 131]])
def test_ellipse_touches_its_box_and_has_its_area(box):
    mask = inscribed_ellipse(box, (150, 170))
    assert box_of_mask(mask).tolist() == box
    height, width = box[2] - box[0], box[3] - box[1]
    assert mask.sum() == pytest.approx(np.pi / 4 * height * width, rel=0.005)
    assert mask.sum() != pytest.approx(height * width, rel=0.1)


def test_ellipse_is_symmetric_and_small_ones_fill_their_box():
    mask = inscribed_ellipse([2, 3, 12, 20], (15, 22))
    inside = mask[2:12, 3:20]
    np.testing.assert_array_equal(inside, inside[::-1])
    np.testing.assert_array_equal(inside, inside[:, ::-1])
    assert inscribed_ellipse([4, 5, 5, 6], (9, 9)).nonzero() == ([4], [5])
    assert inscribed_ellipse([4, 0, 5, 9], (9, 9)).sum() == 9


def test_ellipsoid_has_its_volume():
    mask = inscribed_ellipse([1, 2, 3, 31, 42, 53], (40, 50, 60))
    assert mask.sum() == pytest.approx(np.pi / 6 * 30 * 40 * 50, rel=0.01)
    assert box_of_mask(mask).tolist() == [1, 2, 3, 31, 42, 53]


def picture(shape, box, contrast=80, seed=0):
    """A bright ellipse on noise, and its mask."""
    mask = inscribed_ellipse(box, shape)
    noise = np.random.default_rng(seed).normal(80, 8, (*shape, 3))
    return np.clip(noise + contrast * mask[..., None], 0, 255).astype(np.uint8), mask


class TestGrabCut:
    @pytest.fixture(autouse=True)
    def opencv(self):
        pytest.importorskip("cv2")

    @pytest.mark.parametrize("kind", ["colour", "grey", "float", "int16"])
    def test_finds_what_stands_out(self, kind):
        box = [30, 40, 90, 120]
        image, mask = picture((120, 160), box)
        image = {
            "colour": image,
            "grey": image[..., 0],
            "float": image[..., 0] / 1000 - 0.1,
            "int16": image[..., 0].astype(np.int16) * 7 - 300,
        }[kind]
        assert dice(grabcut(image, box), mask) > 0.97

    def test_stays_within_the_box_and_repeats_itself(self):
        image, mask = picture((120, 160), [30, 40, 90, 120])
        box = [20, 60, 100, 140]  # cuts a quarter of the object off
        found = grabcut(image, box)
        assert not (found & ~inscribed_box(box, found.shape)).any()
        assert dice(found, mask & inscribed_box(box, found.shape)) > 0.9
        np.testing.assert_array_equal(found, grabcut(image, box))

    def test_large_boxes_are_shrunk(self):
        box = [100, 150, 1100, 1350]
        image, mask = picture((1200, 1500), box)
        found = grabcut(image, box)
        assert found.shape == (1200, 1500)
        assert dice(found, mask) > 0.95

    def test_boxes_that_cover_the_image_are_filled(self):
        image, _ = picture((40, 50), [5, 5, 30, 40])
        assert grabcut(image, [0, 0, 40, 50]).all()

    @pytest.mark.parametrize("box", [[0, 0, 1, 1], [39, 49, 40, 50], [10, 0, 11, 50]])
    @pytest.mark.parametrize("value", [0, 7])
    def test_specks_and_flat_images_do_no_harm(self, box, value):
        found = grabcut(np.full((40, 50), value, np.uint8), box)
        assert not (found & ~inscribed_box(box, found.shape)).any()

    def test_volumes_are_refused(self):
        with pytest.raises(InputError, match=r"found shape \(4, 40, 50\)"):
            grabcut(np.zeros((4, 40, 50)), [0, 0, 9, 9])


def inscribed_box(box, shape):
    mask = np.zeros(shape, bool)
    mask[slices(box)] = True
    return mask


def test_missing_opencv_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SetupError, match=r"GrabCut needs OpenCV; run.*: pip install "):
        grabcut(np.zeros((9, 9)), [0, 0, 4, 4])
