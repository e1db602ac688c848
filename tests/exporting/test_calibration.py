import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from helpers.fakes import box_plans
from helpers.plans import dataset_json, make_plans
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from skimage import io

from nnsam.errors import InputError
from nnsam.exporting.calibration import CalibrationSet, calibration_patches, random_crops
from nnsam.exporting.calibration_boxes import choose_boxes, object_boxes, random_box, zoomed_patch
from nnsam.inference import BoxModelSpec
from nnsam.inference.box.image import PreparedImage
from nnsam.nnunet.model_folder import CHECKPOINT, TrainedModel

PATCH = (32, 48)


@pytest.fixture(autouse=True)
def no_preprocessed(monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)


def trained(trainer, plans, channels, configuration="2d"):
    return TrainedModel(Path("model"), CHECKPOINT, ("0",), trainer, configuration, plans, json_of(channels))


def automatic_model(channels=1):
    return trained("nnUNetTrainer", make_plans(patch_size=PATCH), channels)


def box_model(channels=1, prompt="binary"):
    return trained("nnSAMBoxTrainer", box_plans(PATCH, prompt), channels)


def json_of(channels):
    return {**dataset_json(), "channel_names": {str(index): "x" for index in range(channels)}, "file_ending": ".png"}


def same(first, second):
    return len(first.patches) == len(second.patches) and all(
        np.array_equal(a, b) for a, b in zip(first.patches, second.patches, strict=True)
    )


def picture(shape=(60, 80), seed=0):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(np.uint8)


def labels(shape=(60, 80)):
    drawn = np.zeros(shape, np.uint8)
    drawn[10:30, 20:50] = 1
    drawn[40:55, 60:75] = 2
    return drawn


def test_the_first_crop_is_the_padded_centre_of_nnunet():
    data = np.random.default_rng(0).normal(size=(2, 3, 21, 30)).astype(np.float32)
    crop = random_crops(data, PATCH, 1, np.random.default_rng(0))[0]
    expected = pad_nd_image(data[:, 1], PATCH, "constant", {"constant_values": 0})
    np.testing.assert_array_equal(crop[0], expected)


@given(st.integers(0, 2**31), st.tuples(*[st.integers(8, 20)] * 3), st.integers(1, 5))
def test_crops_are_parts_of_the_image(seed, shape, count):
    data = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(1, *shape)
    for crop in random_crops(data, (8, 8, 8), count, np.random.default_rng(seed)):
        assert crop.shape == (1, 1, 8, 8, 8)
        z, y, x = np.unravel_index(int(crop[0, 0, 0, 0, 0]) - 1, shape)
        np.testing.assert_array_equal(crop[0, 0], data[0, z : z + 8, y : y + 8, x : x + 8])


def test_crops_look_for_content_and_for_objects():
    data = np.zeros((1, 40, 100, 100), np.float32)
    data[0, 7, 90, 5] = 1  # a needle in a haystack
    crops = random_crops(data, (20, 20), 6, np.random.default_rng(0), lambda: np.array([[7, 90, 5]]))
    assert [bool(crop.any()) for crop in crops[1::2]] == [True] * 3
    assert not crops[0].any()


def test_pictures_are_preprocessed_by_nnunet(tmp_path):
    model = automatic_model()
    io.imsave(tmp_path / "one_0000.png", picture(), check_contrast=False)
    found = calibration_patches(model, tmp_path, 3)
    plans = PlansManager(dict(model.plans))
    configuration = plans.get_configuration("2d")
    data, _, _ = DefaultPreprocessor(verbose=False).run_case(
        [str(tmp_path / "one_0000.png")], None, plans, configuration, dict(model.dataset_json)
    )
    top, left = (data.shape[2] - PATCH[0]) // 2, (data.shape[3] - PATCH[1]) // 2
    np.testing.assert_array_equal(found.patches[0][0], data[:, 0, top : top + PATCH[0], left : left + PATCH[1]])
    assert found.images == ["one"] * 3
    assert found.from_images
    assert found.origin == f"3 patches of 1 images in {tmp_path.name}"
    assert same(found, calibration_patches(model, tmp_path, 3))
    assert not same(found, calibration_patches(model, tmp_path, 3, seed=1))


def test_channels_that_do_not_fit_are_refused(tmp_path):
    io.imsave(tmp_path / "one_0000.png", picture(), check_contrast=False)
    with pytest.raises(InputError, match="has 1 channel, the model reads 2"):
        calibration_patches(automatic_model(2), tmp_path, 3)


@pytest.mark.parametrize(
    ("model", "message"), [(automatic_model(), "holds only files with other endings"), (box_model(), "holds no images")]
)
def test_a_folder_without_images_is_refused(tmp_path, model, message):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=message):
        calibration_patches(model, tmp_path)
    with pytest.raises(InputError):
        calibration_patches(model, tmp_path / "nothing")


def test_a_damaged_image_is_one_sentence(tmp_path):
    (tmp_path / "one_0000.png").write_bytes(b"no picture")
    for model in (automatic_model(), box_model()):
        with pytest.raises(InputError, match="cannot be read"):
            calibration_patches(model, tmp_path)


def expected_patch(image, box, spec):
    return zoomed_patch(PreparedImage(image, spec).plane(0), np.array(box), spec)


def test_box_models_see_zoomed_objects_of_npz_files(tmp_path):
    image, spec = picture(), BoxModelSpec(PATCH)
    np.savez(tmp_path / "a.npz", imgs=image, gts=labels(), boxes=np.array([[20, 10, 49, 29]]))
    np.testing.assert_array_equal(
        calibration_patches(box_model(), tmp_path, 1).patches[0], expected_patch(image, [10, 20, 30, 50], spec)
    )
    np.savez(tmp_path / "a.npz", imgs=image, gts=labels())
    found = calibration_patches(box_model(), tmp_path, 2).patches
    expected = [expected_patch(image, box, spec) for box in ([10, 20, 30, 50], [40, 60, 55, 75])]
    assert all(any(np.array_equal(one, other) for other in expected) for one in found)
    assert not np.array_equal(*found)


def test_box_models_find_the_labels_of_a_raw_data_set(tmp_path):
    for folder, content in (("imagesTr", picture((60, 80, 3))), ("labelsTr", labels())):
        (tmp_path / folder).mkdir()
        io.imsave(tmp_path / folder / f"a{'_0000' * (folder == 'imagesTr')}.png", content, check_contrast=False)
    found = calibration_patches(box_model(3, "ellipse"), tmp_path, 2)
    assert {patch.shape for patch in found.patches} == {(1, 5, *PATCH)}
    spec = BoxModelSpec(PATCH, 3, "ellipse")
    expected = [expected_patch(picture((60, 80, 3)), box, spec) for box in ([10, 20, 30, 50], [40, 60, 55, 75])]
    assert all(any(np.array_equal(one, other) for other in expected) for one in found.patches)


def test_volumes_are_seen_slice_by_slice(tmp_path):
    volume, drawn = picture((6, 60, 80)), np.zeros((6, 60, 80), np.uint8)
    drawn[4] = labels()
    np.savez(tmp_path / "a.npz", imgs=volume, gts=drawn)
    prepared = PreparedImage(volume, BoxModelSpec(PATCH))
    found = calibration_patches(box_model(), tmp_path, 4).patches
    exact = zoomed_patch(prepared.plane(4), np.array([10, 20, 30, 50]), BoxModelSpec(PATCH))
    assert any(np.array_equal(exact, patch) for patch in found)
    np.savez(tmp_path / "a.npz", imgs=volume, boxes=np.array([[20, 10, 2, 49, 29, 2]]))
    found = calibration_patches(box_model(), tmp_path, 1).patches
    expected = zoomed_patch(prepared.plane(2), np.array([10, 20, 30, 50]), BoxModelSpec(PATCH))
    np.testing.assert_array_equal(found[0], expected)


def test_without_objects_boxes_are_random(tmp_path):
    io.imsave(tmp_path / "a.png", picture(), check_contrast=False)
    found = calibration_patches(box_model(), tmp_path, 3)
    assert len({patch.tobytes() for patch in found.patches}) == 3
    assert all(patch[0, 1].any() for patch in found.patches)


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(0, 2**31))
def test_random_boxes_lie_in_the_picture(shape, seed):
    y0, x0, y1, x1 = random_box(shape, np.random.default_rng(seed))
    assert 0 <= y0 < y1 <= shape[0]
    assert 0 <= x0 < x1 <= shape[1]
    assert y1 - y0 <= max(1, np.ceil(0.8 * shape[0]))


def test_object_boxes_are_those_of_components_without_specks():
    drawn = labels()
    drawn[0, 0] = 1
    assert object_boxes(drawn).tolist() == [[10, 20, 30, 50], [40, 60, 55, 75]]
    assert object_boxes(np.zeros((5, 5), int)).shape == (0, 4)


def test_every_object_comes_before_any_comes_again():
    boxes = object_boxes(labels())
    chosen = choose_boxes(boxes, (60, 80), 5, np.random.default_rng(0))
    assert len(chosen) == 5
    assert sorted(map(list, chosen[:2])) == boxes.tolist()


def write_preprocessed(root, name, data, seg, model):
    folder = root / model.plans["dataset_name"] / model.settings.data_identifier
    folder.mkdir(parents=True, exist_ok=True)
    whole = data.shape
    nnUNetDatasetBlosc2.save_case(data, seg, {}, str(folder / name), whole, whole, seg.shape, seg.shape)


def test_training_data_are_used_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    data = np.random.default_rng(0).normal(size=(1, 1, 60, 80)).astype(np.float32)
    seg = labels()[None, None].astype(np.int16)
    automatic, box = automatic_model(), box_model()
    assert box.settings.data_identifier == automatic.settings.data_identifier
    write_preprocessed(tmp_path, "case", data, seg, automatic)
    found = calibration_patches(automatic, None, 1)
    np.testing.assert_array_equal(found.patches[0][0], data[:, 0, 14:46, 16:64])
    assert found.from_images
    assert "training images" in found.origin
    found = calibration_patches(box, None, 1).patches[0]
    # The image is normalised already: values stay within its range instead of being scaled again.
    assert found.shape == (1, 2, *PATCH)
    assert np.ptp(found[0, 0]) <= np.ptp(data)
    assert found[0, 1].any()
    with pytest.raises(InputError, match="preprocessed for another model"):
        calibration_patches(dataclasses.replace(automatic, dataset_json=json_of(2)), None, 1)


@pytest.mark.parametrize("model", [automatic_model(2), box_model(3, "ellipse")])
def test_noise_is_the_last_resort(model):
    found = calibration_patches(model, None, 2)
    assert not found.from_images
    assert "noise" in found.origin
    assert {patch.shape[2:] for patch in found.patches} == {PATCH}
    assert found.patches[0].shape[1] == (5 if model.is_box else 2)
    assert same(found, calibration_patches(model, None, 2))


def test_inherited_settings_are_found():
    plans = json.loads(json.dumps(make_plans(patch_size=PATCH)))
    plans["configurations"]["child"] = {"inherits_from": "2d", "patch_size": [8, 8]}
    model = trained("nnUNetTrainer", plans, 1, "child")
    assert model.patch_size == (8, 8)
    assert model.settings.data_identifier == plans["configurations"]["2d"]["data_identifier"]


@pytest.mark.parametrize(
    ("images", "expected"),
    [("aabbcc", ([0, 1, 4, 5], [2, 3])), ("aaa", ([0, 2], [1])), ("a", ([0], [0])), ("ab", ([0], [1]))],
)
def test_validation_is_on_other_images_where_there_are_some(images, expected):
    patches = [np.zeros((1, 1, 2, 2), np.float32)] * len(images)
    assert CalibrationSet(patches, list(images), "", True).split() == expected


def test_real_images_of_the_challenge(shared):
    folder = shared / "data" / "us_breast_busi" / "test"
    found = calibration_patches(box_model(), folder, 4)
    assert {patch.shape for patch in found.patches} == {(1, 2, *PATCH)}
    assert all(np.isfinite(patch).all() and patch[0, 1].any() for patch in found.patches)
