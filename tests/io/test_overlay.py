import numpy as np
import pytest
from skimage import io

from nnsam.datasets.phantom import make_phantom
from nnsam.errors import InputError
from nnsam.io.overlay import COLORS, OverlayCase, overlay, write_overlays


def square() -> np.ndarray:
    labels = np.zeros((8, 10), np.uint8)
    labels[2:6, 3:8] = 1
    return labels


def test_fill_is_mixed_and_the_rest_untouched():
    image = np.full((8, 10), 100, np.uint8)
    picture = overlay(image, square(), alpha=0.25)
    inside = square() == 1
    np.testing.assert_allclose(picture[inside], np.round(75 + 0.25 * np.array(COLORS[0]))[None].repeat(20, 0), atol=1)
    assert (picture[~inside] == 100).all()


def test_contour_is_the_labels_inner_border():
    picture = overlay(np.zeros((8, 10), np.uint8), None, square())
    drawn = (picture == COLORS[0]).all(axis=-1)
    expected = square() == 1
    expected[3:5, 4:7] = False
    np.testing.assert_array_equal(drawn, expected)
    assert (picture[~drawn] == 0).all()


def test_the_images_edge_is_no_contour():
    picture = overlay(np.zeros((5, 5), np.uint8), None, np.ones((5, 5), np.uint8))
    assert (picture == 0).all()


def test_neighbouring_labels_keep_their_own_lines():
    labels = np.array([[1, 1, 1, 2, 2, 2]] * 6, np.uint8)
    picture = overlay(np.zeros((6, 6), np.uint8), None, labels)
    assert (picture[:, 2] == COLORS[0]).all()
    assert (picture[:, 3] == COLORS[1]).all()


@pytest.mark.parametrize("colors", [[(1, 2, 3)], {1: (1, 2, 3)}])
def test_own_colors_and_repetition(colors):
    assert overlay(np.zeros((8, 10), np.uint8), square(), colors=colors, alpha=1)[3, 4].tolist() == [1, 2, 3]
    many = square() * (len(COLORS) + 1)
    assert tuple(overlay(np.zeros((8, 10), np.uint8), many, alpha=1)[3, 4]) == COLORS[0]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_other_types_are_stretched_to_the_full_range(dtype):
    image = np.linspace(100, 3000, 400).reshape(20, 20).astype(dtype)
    picture = overlay(image, None)
    assert picture.min() == 0
    assert picture.max() == 255
    assert (np.diff(picture[..., 0].ravel().astype(int)) >= 0).all()


def test_nan_infinite_and_constant_images():
    image = np.full((4, 4), 7.0)
    assert (overlay(image, None) == 0).all()
    image[0, 0], image[1, 1] = np.nan, np.inf
    assert overlay(image, None).shape == (4, 4, 3)
    assert (overlay(np.full((4, 4), np.nan), None) == 0).all()


def test_inputs_are_not_changed():
    image, labels = make_phantom(0, (48, 48), channels=3)
    before = image.copy(), labels.copy()
    overlay(image, labels, labels)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (2, 4, 4, 3), (0, 4)])
def test_images_of_other_shapes_are_named(shape):
    with pytest.raises(InputError, match="must be"):
        overlay(np.zeros(shape, np.uint8), None)


def test_label_maps_of_other_shapes_are_named():
    with pytest.raises(InputError, match=r"reference has shape \(4, 5\)"):
        overlay(np.zeros((4, 4), np.uint8), None, np.zeros((4, 5), np.uint8))


def test_grid_is_written_with_every_case(tmp_path):
    cases = [OverlayCase(f"case {seed}", *make_phantom(seed, (48, 64))) for seed in range(5)]
    write_overlays(tmp_path / "new" / "grid.png", cases, label_names={1: "LV", 2: "RV"}, columns=3)
    picture = io.imread(tmp_path / "new" / "grid.png")
    assert picture.shape[1] > 700
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 100
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]


def test_no_case_is_refused_and_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        write_overlays(tmp_path / "grid.png", [])
    with pytest.raises(InputError):
        write_overlays(tmp_path / "grid.png", [OverlayCase("bad", np.zeros(3), None)])
    assert list(tmp_path.iterdir()) == []
