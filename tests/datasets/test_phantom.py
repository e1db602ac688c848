import json

import numpy as np
import pytest
from helpers.processes import accepted_by_nnunet
from scipy import ndimage
from skimage import io

from nnsam.datasets import phantom
from nnsam.datasets.phantom import IGNORE_VALUE, STRUCTURES, make_phantom, paint_ignore, write_phantom_dataset
from nnsam.errors import InputError


def pixels_per_label(labels: np.ndarray) -> list[int]:
    return np.bincount(labels.ravel(), minlength=6).tolist()


def connected_parts(mask: np.ndarray) -> int:
    return ndimage.label(mask, np.ones((3, 3)))[1]


def test_same_seed_gives_the_same_arrays_whatever_was_drawn_before():
    first = make_phantom(3, (48, 64))
    np.random.default_rng(0).random()
    second = make_phantom(3, (48, 64))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[1], make_phantom(4, (48, 64))[1])


def test_recorded_values_hold_on_every_platform():
    image, labels = make_phantom(7, (64, 80))
    assert pixels_per_label(labels) == [3942, 291, 306, 162, 193, 226]
    # Sums of rounded values may differ by a few units where the mathematical functions differ in the last bit.
    assert abs(int(image.sum()) - 510963) <= 5


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (64, 96), (96, 64)])
def test_every_structure_is_there(size):
    for seed in range(60):
        assert set(np.unique(make_phantom(seed, size)[1])) == {0, *STRUCTURES.values()}, seed


@pytest.mark.parametrize("size", [(64, 64), (96, 80)])
def test_every_structure_is_in_one_piece(size):
    for seed in range(60):
        labels = make_phantom(seed, size)[1]
        assert [connected_parts(labels == value) for value in STRUCTURES.values()] == [1] * 5, seed


def test_connected_parts_sees_a_broken_structure():
    assert connected_parts(np.array([[1, 0, 1]]) == 1) == 2


def test_structures_touch_and_the_ventricle_lies_in_its_wall():
    labels = make_phantom(0)[1]
    around_lv = ndimage.binary_dilation(labels == STRUCTURES["LV"]) & (labels != STRUCTURES["LV"])
    assert set(np.unique(labels[around_lv])) >= {STRUCTURES["Myo"], STRUCTURES["LA"]}
    assert np.mean(labels[around_lv] == STRUCTURES["Myo"]) > 0.6


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_no_threshold_finds_a_structure(modality):
    def best_dice(image, mask):
        levels = np.linspace(0, 255, 27)
        bands = ((image >= low) & (image < high) for i, low in enumerate(levels) for high in levels[i + 1 :])
        return max(2 * np.sum(band & mask) / (band.sum() + mask.sum()) for band in bands)

    image, labels = make_phantom(1, (96, 96), modality=modality)
    assert max(best_dice(image, labels == value) for value in STRUCTURES.values()) < 0.85
    # The check itself can fail: a mask that is a band of intensities is found.
    assert best_dice(image, (image >= 98) & (image < 127)) > 0.9


def test_image_types_sizes_and_channels():
    image, labels = make_phantom(0, (40, 56))
    assert image.shape == labels.shape == (40, 56)
    assert image.dtype == labels.dtype == np.uint8
    rgb = make_phantom(0, (40, 56), channels=3)[0]
    assert rgb.shape == (40, 56, 3)
    assert not np.array_equal(rgb[..., 0], rgb[..., 1])


def test_ignore_covers_a_part_and_leaves_every_structure():
    for seed in range(40):
        labels = make_phantom(seed, (48, 48))[1]
        before = labels.copy()
        painted = paint_ignore(labels, seed)
        np.testing.assert_array_equal(labels, before)
        assert set(np.unique(painted)) == {0, *STRUCTURES.values(), IGNORE_VALUE}
        assert 0.05 < np.mean(painted == IGNORE_VALUE) < 0.5
        np.testing.assert_array_equal(painted[painted != IGNORE_VALUE], labels[painted != IGNORE_VALUE])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "at least 0"),
        ({"seed": 0, "size": (16, 64)}, "at least 32"),
        ({"seed": 0, "size": (64,)}, "height, width"),
        ({"seed": 0, "modality": "us"}, "found 'us'"),
        ({"seed": 0, "channels": 2}, "found 2"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        make_phantom(**arguments)


def read_dataset(folder):
    return json.loads((folder / "dataset.json").read_text()), {
        part: {path.name: io.imread(path) for path in sorted((folder / part).iterdir())}
        for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
    }


def test_dataset_holds_different_cases_and_only_declared_values(tmp_path):
    folder = write_phantom_dataset(tmp_path / "Dataset901_Phantom", 3, 2, size=(48, 48))
    description, parts = read_dataset(folder)
    assert description["labels"] == {"background": 0, **STRUCTURES}
    assert description["numTraining"] == 3
    assert list(parts["imagesTr"]) == [f"phantom_{i:03d}_0000.png" for i in range(3)]
    assert list(parts["labelsTs"]) == ["phantom_003.png", "phantom_004.png"]
    labels = [*parts["labelsTr"].values(), *parts["labelsTs"].values()]
    assert all(set(np.unique(array)) == set(range(6)) for array in labels)
    assert len({array.tobytes() for array in labels}) == 5


def test_datasets_of_other_seeds_share_no_case(tmp_path):
    first = read_dataset(write_phantom_dataset(tmp_path / "Dataset901_A", seed=0, size=(32, 32)))[1]
    second = read_dataset(write_phantom_dataset(tmp_path / "Dataset902_B", seed=1, size=(32, 32)))[1]
    images = [
        array.tobytes()
        for parts in (first, second)
        for key in ("imagesTr", "imagesTs")
        for array in parts[key].values()
    ]
    assert len(set(images)) == len(images) == 16


def test_regions_give_back_the_labels_they_are_written_over(tmp_path):
    folder = write_phantom_dataset(tmp_path / "Dataset901_Phantom", 1, 0, size=(48, 48), regions=True, ignore=True)
    description = json.loads((folder / "dataset.json").read_text())
    labels = make_phantom(0, (48, 48))[1]
    regions = [value for name, value in description["labels"].items() if name not in ("background", "ignore")]
    written = np.zeros_like(labels)
    for region, value in zip(regions, description["regions_class_order"], strict=True):
        written[np.isin(labels, region)] = value
    np.testing.assert_array_equal(written, labels)
    assert description["labels"]["ignore"] == IGNORE_VALUE


def test_ignore_is_painted_on_training_labels_only(tmp_path):
    parts = read_dataset(write_phantom_dataset(tmp_path / "Dataset901_P", 1, 1, size=(48, 48), ignore=True))[1]
    assert parts["labelsTr"]["phantom_000.png"].max() == IGNORE_VALUE
    assert parts["labelsTs"]["phantom_001.png"].max() == 5


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(phantom, "write_dataset_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom_dataset(tmp_path / "Dataset901_Phantom", 1, 1, size=(32, 32))
    assert list(tmp_path.iterdir()) == []


def test_existing_data_and_bad_names_are_refused(tmp_path):
    write_phantom_dataset(tmp_path / "Dataset901_Phantom", 1, 0, size=(32, 32))
    with pytest.raises(InputError, match="already exists"):
        write_phantom_dataset(tmp_path / "Dataset901_Phantom", 1, 0, size=(32, 32))
    with pytest.raises(InputError, match="DatasetXXX_Name"):
        write_phantom_dataset(tmp_path / "phantom")
    with pytest.raises(InputError, match=r"1\.\.1000 cases"):
        write_phantom_dataset(tmp_path / "Dataset902_Phantom", 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"regions": True}, {"ignore": True, "regions": True}, {"channels": 3}])
def test_nnunet_accepts_the_dataset(tmp_path, options):
    accepted_by_nnunet(write_phantom_dataset(tmp_path / "Dataset901_P", 2, 1, size=(48, 48), **options))
