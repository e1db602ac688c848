import json

import numpy as np
import pytest
from helpers.processes import accepted_by_nnunet
from scipy import ndimage
from skimage import io

from nnsam.datasets import objects as prompt_dataset
from nnsam.datasets.objects import convert_prompt_dataset
from nnsam.errors import InputError

TARGET = "Dataset201_Boxes"


@pytest.fixture
def add(tmp_path):
    """Writes one npz case and returns its set's folder."""

    def add(set_name, case, gts, *, split="train", imgs=None, **extra):
        gts = np.asarray(gts, np.uint8)
        folder = tmp_path / set_name / split
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{case}.npz", imgs=gts * 9 if imgs is None else imgs, gts=gts, **extra)
        return tmp_path / set_name

    return add


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def content(folder, name="dataset.json"):
    return json.loads((folder / name).read_text())


def parted(folds, patients) -> list[set[str]]:
    return [shared for fold in folds for shared in [{*map(patients, fold["train"])} & {*map(patients, fold["val"])}]]


def test_sets_with_and_without_instances_share_one_numbering(add, tmp_path):
    classes = add("mr", "a", [[0, 2], [1, 0]])
    instances = add("cells", "b", [[1, 1], [0, 1]], inst=np.array([[5, 5], [0, 9]], np.uint16))
    target = tmp_path / TARGET
    result = convert_prompt_dataset([classes, instances], target)
    assert files(target) == [
        "dataset.json",
        "imagesTr/cells__b_0000.png",
        "imagesTr/mr__a_0000.png",
        "labelsTr/cells__b.png",
        "labelsTr/mr__a.png",
        "splits_final.json",
    ]
    assert io.imread(target / "labelsTr/mr__a.png").tolist() == [[0, 2], [1, 0]]
    labels = io.imread(target / "labelsTr/cells__b.png")
    assert labels[0, 0] == labels[0, 1]
    assert sorted(np.unique(labels).tolist()) == [0, 3, 4]  # the two touch
    names = {"background": 0, "object_1": 1, "object_2": 2, "instance_1": 3, "instance_2": 4}
    description = content(target)
    assert description["labels"] == result.labels == names
    assert (description["numTraining"], description["file_ending"]) == (2, ".png")
    assert (result.pictures, result.patients, result.folds) == ({"mr": 1, "cells": 1}, 2, 2)


def test_a_set_may_have_instances_in_some_cases_only(add, tmp_path):
    source = add("heart", "a", [[7, 7]], inst=np.array([[1, 1]]))
    add("heart", "b", [[3, 0]])
    result = convert_prompt_dataset([source], tmp_path / TARGET)
    assert list(result.labels) == ["background", "object_1", "object_2", "object_3", "instance_1"]
    assert io.imread(tmp_path / TARGET / "labelsTr/heart__a.png").tolist() == [[4, 4]]
    assert io.imread(tmp_path / TARGET / "labelsTr/heart__b.png").tolist() == [[3, 0]]


def test_pictures_are_rgb_whatever_the_source_holds(add, tmp_path):
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    grey = np.array([[0, 100, 200], [300, 400, 500]], np.int16)
    source = add("s", "colour", np.eye(2, 3), imgs=colour)
    add("s", "grey", np.eye(2, 3), imgs=grey)
    convert_prompt_dataset([source], tmp_path / TARGET)
    np.testing.assert_array_equal(io.imread(tmp_path / TARGET / "imagesTr/s__colour_0000.png"), colour)
    written = io.imread(tmp_path / TARGET / "imagesTr/s__grey_0000.png")
    assert written.dtype == np.uint8
    assert written.shape == (2, 3, 3)
    np.testing.assert_array_equal(written[..., 0], [[0, 0, 63], [127, 191, 255]])
    assert (written == written[..., :1]).all()


def test_volumes_become_slices_with_objects_scaled_as_a_whole(add, tmp_path):
    labels = np.zeros((4, 2, 2), np.uint8)
    labels[1, 0, 0] = labels[3, 1, 1] = 1
    volume = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    source = add("ct", "scan", labels, imgs=volume, spacing=np.ones(3))
    add("ct", "empty", np.zeros((2, 2)))
    result = convert_prompt_dataset([source], tmp_path / TARGET)
    assert files(tmp_path / TARGET / "labelsTr") == ["ct__scan_z001.png", "ct__scan_z003.png"]
    assert io.imread(tmp_path / TARGET / "imagesTr/ct__scan_z003_0000.png").max() == 255
    assert io.imread(tmp_path / TARGET / "imagesTr/ct__scan_z001_0000.png").max() < 128
    assert (result.pictures, result.patients, result.folds) == ({"ct": 2}, 1, 0)
    assert "splits_final.json" not in files(tmp_path / TARGET)


def test_patients_are_never_parted_not_even_between_sets(add, tmp_path):
    volume = np.ones((3, 2, 2))
    sources = set()
    for patient in range(1, 8):
        for kind in ("CT", "MR"):
            sources.add(add(f"{kind.lower()}_sts", f"3D{kind}_STS_{patient:03d}", volume, spacing=np.ones(3)))
        for phase in ("ED", "ES"):
            sources.add(add("acdc", f"patient{patient:03d}_{phase}_z04", [[1, 2]]))
    convert_prompt_dataset(sorted(sources), tmp_path / TARGET)
    folds = content(tmp_path / TARGET, "splits_final.json")

    def patient(identifier):
        name = identifier.split("__")[1]
        return name[5:12] if "STS" in name else name[:10]

    assert len(folds) == 5
    assert not any(parted(folds, patient))
    assert any(parted(folds, lambda identifier: identifier.split("__")[0]))  # the check notices what is parted
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(
        path.name.removesuffix(".png") for path in (tmp_path / TARGET / "labelsTr").iterdir()
    )


def test_validation_folders_are_skipped_unless_asked_for(add, tmp_path):
    source = add("s", "10_a", [[1]])
    for case, split in (("10_b", "val"), ("11_a", "train"), ("12_a", "test")):
        add("s", case, [[1]], split=split)
    plain = add("plain", "x", [[1]])
    assert convert_prompt_dataset([source], tmp_path / TARGET).pictures == {"s": 2}
    result = convert_prompt_dataset([source, plain], tmp_path / "Dataset202_Boxes", splits=["train", "val", "test"])
    assert (result.pictures, result.test_pictures, result.folds) == ({"s": 3, "plain": 1}, 1, 1)
    assert content(tmp_path / "Dataset202_Boxes", "splits_final.json") == [
        {"train": ["plain__x", "s__11_a"], "val": ["s__10_a", "s__10_b"]}  # 10_a is the same patient
    ]
    assert files(tmp_path / "Dataset202_Boxes" / "imagesTs") == ["s__12_a_0000.png"]


def test_names_become_safe(add, tmp_path):
    source = add("a set__é", "x.y__(1)", [[1]])
    convert_prompt_dataset([source], tmp_path / TARGET)
    assert files(tmp_path / TARGET / "labelsTr") == ["a-set_-__x-y_-1-.png"]


def test_channel_names_make_nnunet_normalise_by_z_score(add, tmp_path):
    from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme

    convert_prompt_dataset([add("s", "x", [[1]])], tmp_path / TARGET)
    names = content(tmp_path / TARGET)["channel_names"]
    assert list(names) == ["0", "1", "2"]
    assert {get_normalization_scheme(name).__name__ for name in names.values()} == {"ZScoreNormalization"}
    assert get_normalization_scheme("CT").__name__ != "ZScoreNormalization"


def refuse(tmp_path, words, *arguments, **options):
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=words) as error:
        convert_prompt_dataset(*arguments, **options)
    assert "\n" not in str(error.value)
    assert set(tmp_path.iterdir()) == before


def test_what_cannot_be_used_is_named(add, tmp_path):
    target, good = tmp_path / TARGET, add("good", "x", [[1]])
    refuse(tmp_path, "DatasetXXX_Name", [good], tmp_path / "out")
    refuse(tmp_path, "not a folder", [good, tmp_path / "absent"], target)
    refuse(tmp_path, "predictions of a model", [good, add("x_PREDICTED", "a", [[1]])], target)
    refuse(tmp_path, "has no folder train", [good, add("tests", "a", [[1]], split="test")], target)
    refuse(tmp_path, "Unknown split other", [good], target, splits=["other"])
    refuse(tmp_path, "would both be called good__x", [good, good], target)
    refuse(tmp_path, "0 classes and 0 instance", [add("empty", "a", [[0]])], target)
    refuse(tmp_path, "would both be called t__x-y", [add("t", "x y", [[1]]), add("t", "x+y", [[1]])][:1], target)
    broken = add("broken", "a", [[1]])
    (broken / "train" / "a.npz").write_bytes(b"PK\x03\x04 cut off")
    refuse(tmp_path, r"a\.npz", [good, broken], target)
    np.savez(broken / "train" / "a.npz", imgs=np.zeros((2, 2)), boxes=np.zeros((1, 4)))
    refuse(tmp_path, r"has no masks \(key gts\); leave broken out", [good, broken], target)
    many = tmp_path / "many" / "train"
    many.mkdir(parents=True)
    np.savez(many / "a.npz", imgs=np.zeros((2, 2)), gts=np.full((2, 2), 300))
    refuse(tmp_path, "300 classes", [many.parent], target)


def test_interruption_leaves_nothing(add, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    source = add("s", "x", [[1]])
    monkeypatch.setattr(prompt_dataset, "write_dataset_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_prompt_dataset([source], tmp_path / TARGET)
    assert list(tmp_path.iterdir()) == [source]


def test_real_instances_stay_apart(shared, tmp_path):
    source = shared / "data" / "brain_tumor_mr_brats"
    result = convert_prompt_dataset([source], tmp_path / TARGET)
    paths = sorted((source / "train").glob("*.npz"))
    assert result.pictures == {source.name: len(paths)}
    for path in paths:
        instances = np.load(path)["inst"]
        labels = io.imread(tmp_path / TARGET / "labelsTr" / f"{source.name}__{path.stem}.png")
        for value in np.unique(labels[labels > 0]):
            components, count = ndimage.label(labels == value, np.ones((3, 3)))
            for index in range(1, count + 1):
                assert len(np.unique(instances[components == index])) == 1


@pytest.mark.slow
def test_nnunet_accepts_real_sets(shared, tmp_path):
    names = ["cxr_shenzhen", "heart_ct_chd68", "heart_mmwhs_sifa", "mr3d_acdc", "endo_polyp_kvasir"]
    convert_prompt_dataset([shared / "data" / name for name in names], tmp_path / TARGET)
    accepted_by_nnunet(tmp_path / TARGET)
