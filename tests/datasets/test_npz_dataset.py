import json

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.processes import accepted_by_nnunet
from skimage import io

from nnsam.datasets import challenge as npz_dataset
from nnsam.datasets.challenge import convert_npz_dataset
from nnsam.errors import InputError


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


def add(source, split, name, shape=(6, 8), dtype=np.uint8, top=2, colour=False, spacing=None):
    """Writes one npz case whose labels hold 0..top."""
    (source / split).mkdir(parents=True, exist_ok=True)
    size = int(np.prod(shape))
    image = (np.arange(size * (3 if colour else 1)) % 200).reshape((*shape, 3) if colour else shape).astype(dtype)
    labels = (np.arange(size) % (top + 1)).reshape(shape).astype(np.uint8)
    extra = {} if spacing is None else {"spacing": np.array(spacing, np.float32)}
    np.savez(source / split / f"{name}.npz", imgs=image, gts=labels, **extra)
    return image, labels


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_grey_pictures_become_png(source, tmp_path):
    image, labels = add(source, "train", "a")
    add(source, "test", "b", top=1)
    target = tmp_path / "Dataset007_X"
    result = convert_npz_dataset(source, target)
    assert files(target) == [
        "dataset.json",
        "imagesTr/a_0000.png",
        "imagesTs/b_0000.png",
        "labelsTr/a.png",
        "labelsTs/b.png",
    ]
    np.testing.assert_array_equal(io.imread(target / "imagesTr/a_0000.png"), image)
    np.testing.assert_array_equal(io.imread(target / "labelsTr/a.png"), labels)
    content = json.loads((target / "dataset.json").read_text())
    assert content["labels"] == result.labels == {"background": 0, "label_1": 1, "label_2": 2}
    assert (content["name"], content["numTraining"], content["channel_names"]) == ("Dataset007_X", 1, {"0": "image"})
    assert result.cases == {"train": 1, "test": 1}


def test_colour_pictures_become_one_rgb_png(source, tmp_path):
    image, _ = add(source, "train", "a", colour=True)
    convert_npz_dataset(source, tmp_path / "Dataset007_X")
    np.testing.assert_array_equal(io.imread(tmp_path / "Dataset007_X/imagesTr/a_0000.png"), image)
    content = json.loads((tmp_path / "Dataset007_X/dataset.json").read_text())
    assert content["channel_names"] == {"0": "R", "1": "G", "2": "B"}


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_other_types_become_nifti_with_their_values(source, tmp_path, dtype):
    image, labels = add(source, "train", "a", dtype=dtype, spacing=(0.5, 1.5))
    target = tmp_path / "Dataset007_X"
    assert convert_npz_dataset(source, target).file_ending == ".nii.gz"
    read = sitk.ReadImage(str(target / "imagesTr/a_0000.nii.gz"))
    assert read.GetSpacing() == pytest.approx((0.5, 1.5))  # x, y
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), image)
    assert sitk.GetArrayFromImage(read).dtype == dtype
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(target / "labelsTr/a.nii.gz"))), labels)


def test_one_case_that_needs_nifti_decides_for_all(source, tmp_path):
    add(source, "train", "a")
    add(source, "train", "b", dtype=np.int16)
    convert_npz_dataset(source, tmp_path / "Dataset007_X")
    assert files(tmp_path / "Dataset007_X")[1:3] == ["imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz"]


def test_float16_and_colour_with_spacing(source, tmp_path):
    image, _ = add(source, "train", "a", dtype=np.float16, colour=True, spacing=(1, 2))
    convert_npz_dataset(source, tmp_path / "Dataset007_X")
    for channel in range(3):
        read = sitk.ReadImage(str(tmp_path / f"Dataset007_X/imagesTr/a_000{channel}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read), image[..., channel])


def test_nnunet_reads_2d_nifti_with_its_plane_spacing(source, tmp_path):
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    add(source, "train", "a", dtype=np.int16, spacing=(0.5, 1.5))
    convert_npz_dataset(source, tmp_path / "Dataset007_X")
    image, properties = SimpleITKIO().read_images([str(tmp_path / "Dataset007_X/imagesTr/a_0000.nii.gz")])
    assert image.shape == (1, 1, 6, 8)
    assert properties["spacing"][1:] == pytest.approx([1.5, 0.5])  # y, x
    # The third axis must be the thickest one, or nnU-Net would slice the image along another.
    assert properties["spacing"][0] > 1.5


def test_volumes_keep_the_order_of_axes_and_spacing(source, tmp_path):
    image, _ = add(source, "train", "a", shape=(4, 6, 8), spacing=(0.5, 0.75, 3))
    convert_npz_dataset(source, tmp_path / "Dataset007_X")
    read = sitk.ReadImage(str(tmp_path / "Dataset007_X/imagesTr/a_0000.nii.gz"))
    assert read.GetSize() == (8, 6, 4)
    assert read.GetSpacing() == pytest.approx((0.5, 0.75, 3))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), image)


def test_validation_cases_join_training_and_are_told_apart(source, tmp_path):
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        add(source, split, name)
    convert_npz_dataset(source, tmp_path / "Dataset007_X")
    assert json.loads((tmp_path / "Dataset007_X/splits_final.json").read_text()) == [
        {"train": ["a", "b"], "val": ["c"]}
    ]
    assert json.loads((tmp_path / "Dataset007_X/dataset.json").read_text())["numTraining"] == 3


def test_chosen_splits_names_and_channel(source, tmp_path):
    for split in ("train", "val", "test"):
        add(source, split, split)
    convert_npz_dataset(
        source,
        tmp_path / "Dataset007_X",
        name="Hearts",
        splits=["train", "test"],
        label_names={1: "lung", 2: "heart", 3: "spine"},
        channel_name="CT",
    )
    content = json.loads((tmp_path / "Dataset007_X/dataset.json").read_text())
    assert content["labels"] == {"background": 0, "lung": 1, "heart": 2, "spine": 3}
    assert (content["name"], content["channel_names"]) == ("Hearts", {"0": "CT"})
    assert not (tmp_path / "Dataset007_X/splits_final.json").exists()
    assert not list((tmp_path / "Dataset007_X").rglob("val*"))


def test_labels_beyond_one_byte_keep_their_values(source, tmp_path):
    add(source, "train", "a", shape=(20, 20))
    (source / "train" / "a.npz").unlink()
    labels = np.arange(301, dtype=np.uint16).reshape(7, 43)
    np.savez(source / "train" / "a.npz", imgs=labels.astype(np.uint8), gts=labels)
    convert_npz_dataset(source, tmp_path / "Dataset007_X")
    np.testing.assert_array_equal(io.imread(tmp_path / "Dataset007_X/labelsTr/a.png"), labels)


def refuse(source, tmp_path, words, **arguments):
    target = tmp_path / arguments.pop("target", "Dataset007_X")
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=words):
        convert_npz_dataset(source, target, **arguments)
    assert set(tmp_path.iterdir()) == before


def test_folders_without_cases_are_named(source, tmp_path):
    refuse(source, tmp_path, "not a folder")
    source.mkdir()
    refuse(source, tmp_path, "must be subfolders")
    (source / "train").mkdir()
    refuse(source, tmp_path, "no npz files in train")
    refuse(source, tmp_path, "has no folder test", splits=["train", "test"])
    refuse(source, tmp_path, "Unknown split other", splits=["other"])


def test_data_that_do_not_belong_together_are_named(source, tmp_path):
    add(source, "train", "a")
    add(source, "val", "a")
    refuse(source, tmp_path, "train and val both hold a")
    add(source, "test", "b", colour=True)
    refuse(source, tmp_path, "either grey or in colour", splits=["train", "test"])
    add(source, "test", "b", shape=(3, 6, 8))
    refuse(source, tmp_path, "volume without the key spacing", splits=["train", "test"])


@pytest.mark.parametrize(
    ("label_names", "words"),
    [
        ({1: "a"}, r"labels \[2\], which --labels does not name"),
        ({1: "a", 2: "b", 4: "d"}, r"without gaps; found \[1, 2, 4\]"),
        ({0: "z", 1: "a", 2: "b"}, "without gaps"),
        ({1: "a", 2: "a"}, "differ from each other"),
        ({1: "a", 2: "background"}, "differ from each other"),
    ],
)
def test_bad_label_names_are_explained(source, tmp_path, label_names, words):
    add(source, "train", "a")
    refuse(source, tmp_path, words, label_names=label_names)


def test_gaps_between_labels_and_no_labels_are_explained(source, tmp_path):
    (source / "train").mkdir(parents=True)
    np.savez(source / "train" / "a.npz", imgs=np.zeros((4, 4), np.uint8), gts=np.diag([0, 1, 3, 3]))
    refuse(source, tmp_path, r"without gaps; found \[1, 3\]")
    np.savez(source / "train" / "a.npz", imgs=np.zeros((4, 4), np.uint8), gts=np.zeros((4, 4), np.uint8))
    refuse(source, tmp_path, "No case holds any label")


def test_bad_targets_are_refused(source, tmp_path):
    add(source, "train", "a")
    refuse(source, tmp_path, "DatasetXXX_Name", target="out")
    (tmp_path / "Dataset007_X").mkdir()
    (tmp_path / "Dataset007_X" / "old").write_text("")
    refuse(source, tmp_path, "already exists")


def test_interruption_leaves_nothing(source, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    add(source, "train", "a")
    monkeypatch.setattr(npz_dataset, "write_dataset_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_npz_dataset(source, tmp_path / "Dataset007_X")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("name", "classes", "ending"), [("cxr_shenzhen", 1, ".png"), ("heart_mmwhs_sifa", 5, ".nii.gz")]
)
def test_real_sets_are_converted_value_by_value(shared, tmp_path, name, classes, ending):
    source, target = shared / "data" / name, tmp_path / "Dataset007_X"
    result = convert_npz_dataset(source, target)
    assert (len(result.labels) - 1, result.file_ending) == (classes, ending)
    for path in sorted(source.glob("train/*.npz"))[:2]:
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(target / f"imagesTr/{path.stem}_0000{ending}")))
        np.testing.assert_array_equal(written, np.load(path)["imgs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cxr_shenzhen", "heart_ct_chd68", "heart_mmwhs_sifa", "mr3d_acdc", "endo_polyp_kvasir"]
)
def test_nnunet_accepts_real_sets(shared, tmp_path, name):
    convert_npz_dataset(shared / "data" / name, tmp_path / "Dataset007_X")
    accepted_by_nnunet(tmp_path / "Dataset007_X")
