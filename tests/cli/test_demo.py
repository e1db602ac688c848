"""The demo's comparison of two folders of label maps."""

import numpy as np

from nnsam.cli.demo import different_pixels
from nnsam.io.writing import write_png


def test_the_share_of_pixels_that_differ(tmp_path):
    labels = np.zeros((10, 10), dtype=np.uint8)
    for folder in ("a", "b"):
        write_png(tmp_path / folder / "x.png", labels)
        write_png(tmp_path / folder / "y.png", labels)
    assert different_pixels(tmp_path / "a", tmp_path / "b") == 0
    labels[0, :3] = 1
    write_png(tmp_path / "b" / "y.png", labels)
    assert different_pixels(tmp_path / "a", tmp_path / "b") == 3 / 200


def test_a_missing_label_map_counts_as_all_different(tmp_path):
    write_png(tmp_path / "a" / "x.png", np.zeros((4, 4), dtype=np.uint8))
    (tmp_path / "b").mkdir()
    assert different_pixels(tmp_path / "a", tmp_path / "b") == 1
    assert different_pixels(tmp_path / "b", tmp_path / "a") == 1
