"""The predictor beside nnU-Net's own, from the same files, and with arrays."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.bundles import write_automatic, write_box
from helpers.model_folders import write_model_folder
from helpers.nnunet_reference import dataset_with, manifest_of, plans_with
from helpers.plans import make_plans
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from skimage.io import imread, imsave

from nnsam.errors import InputError
from nnsam.inference.automatic.predictor import Predictor
from nnsam.inference.folders.predict import predict_folder
from nnsam.io.finding import find_cases

LABELS = {"background": 0, "a": 1, "b": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}


def predict_sequentially(predictor, images, ending, output, probabilities=False):
    """nnU-Net's way that starts no processes; it looks for the files of a folder in a forked one."""
    cases = {}
    for path in sorted(images.glob(f"*{ending}")):
        cases.setdefault(path.name[: -len(f"_0000{ending}")], []).append(str(path))
    outputs = [str(output / case) for case in cases]
    predictor.predict_from_files_sequential(list(cases.values()), outputs, save_probabilities=probabilities)


class Model:
    """A bundle and nnU-Net's predictor with the same random network."""

    def __init__(self, folder, plans, dataset, reader, ending, *, folds=("0",), mirror=True, channels=1, **options):
        settings = plans["configurations"]["tested"]
        dimensions = len(settings["patch_size"])
        axes = list(range(dimensions)) if mirror else None
        dataset["file_ending"], plans["image_reader_writer"] = ending, reader
        sections = manifest_of(plans, dataset, axes)
        sections |= {"input": {"reader": reader, "file_ending": ending}, "dataset_json": dataset}
        self.networks = write_automatic(
            folder,
            dimensions=dimensions,
            patch_size=tuple(settings["patch_size"]),
            channels=channels,
            outputs=sections["labels"]["outputs"],
            folds=folds,
            mirror=mirror,
            sections=sections,
            **options,
        )
        self.folder, self.plans, self.dataset, self.axes = folder, plans, dataset, axes
        self.ending, self.channels = ending, channels

    def nnunet(self, images, output, probabilities=False):
        output.mkdir()
        manager = PlansManager(copy.deepcopy(self.plans))
        with contextlib.redirect_stdout(io.StringIO()):
            predictor = nnUNetPredictor(
                use_mirroring=True, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
            )
            predictor.manual_initialization(
                copy.deepcopy(self.networks[0]),
                manager,
                manager.get_configuration("tested"),
                [network.state_dict() for network in self.networks],
                self.dataset,
                "nnUNetTrainer",
                self.axes,
            )
            predict_sequentially(predictor, images, self.ending, output, probabilities)

    def ours(self, images, output, **options):
        report = predict_folder(
            Predictor.open(self.folder, "f32", cache=False),
            find_cases(images, self.ending, self.channels),
            output,
            **options,
        )
        assert [outcome.error for outcome in report.outcomes] == [""] * len(report.outcomes)


def volumes(folder, shapes, spacings, channels=1, seed=0):
    """Smooth blobs in noise with zeros around them, so that there is something to crop and to find."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True)):
        for channel in range(channels):
            values = generator.normal(100, 40, shape).astype(np.float32)
            if len(shape) == 3:
                values[: shape[0] // 4] = 0
            values[..., :3] = 0
            image = sitk.GetImageFromArray(values)
            image.SetSpacing([float(value) for value in spacing[::-1]])
            image.SetOrigin([float(number + axis) for axis in range(len(shape))])
            sitk.WriteImage(image, str(folder / f"case{number}_{channel:04d}.nii.gz"))


def compare(ours, theirs, ending):
    """Returns the share of differing voxels; names, geometry and types must be the same."""
    names = sorted(path.name for path in theirs.glob(f"*{ending}"))
    assert names == sorted(path.name for path in ours.glob(f"*{ending}"))
    assert names
    different = total = 0
    found = set()
    for name in names:
        if ending == ".png":
            mine, reference = imread(ours / name), imread(theirs / name)
        else:
            images = [sitk.ReadImage(str(folder / name)) for folder in (ours, theirs)]
            for get in ("GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDTypeAsString"):
                assert getattr(images[0], get)() == getattr(images[1], get)()
            mine, reference = map(sitk.GetArrayFromImage, images)
        assert mine.dtype == reference.dtype
        different += np.count_nonzero(mine != reference)
        total += mine.size
        found |= set(np.unique(reference))
    assert len(found) > 1, "nothing was segmented, so nothing was compared"
    return different / total


CASES = {
    "3d, anisotropic": (
        plans_with((2.0, 1.0, 1.0), (8, 24, 32)),
        dataset_with(LABELS),
        ((14, 40, 50), (9, 20, 61)),
        ((3.5, 0.8, 0.9), (2.0, 1.0, 1.0)),
        {"folds": ("0", "1")},
    ),
    "3d, turned, regions": (
        plans_with((1.0, 1.2, 0.9), (16, 16, 16), ("CTNormalization", "ZScoreNormalization"), transpose=(2, 0, 1)),
        dataset_with(REGIONS, [1, 2], 2),
        ((20, 18, 22),),
        ((1.1, 0.9, 1.3),),
        {"channels": 2, "mirror": False},
    ),
    "2d of volumes, masked": (
        plans_with((1.0, 1.0), (24, 32), masks=[True]),
        dataset_with(LABELS),
        ((5, 40, 50),),
        ((5.0, 0.8, 1.1),),
        {},
    ),
    "2d of two-dimensional files, SAM": (
        plans_with((0.5, 0.5), (32, 48)),
        dataset_with(LABELS),
        ((40, 90), (30, 40)),
        ((0.5, 0.5), (0.7, 0.4)),
        {"sam": True, "folds": ("0", "1")},
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_volumes_as_nnunet(tmp_path, name):
    plans, dataset, shapes, spacings, options = CASES[name]
    model = Model(
        tmp_path / "bundle", copy.deepcopy(plans), copy.deepcopy(dataset), "SimpleITKIO", ".nii.gz", **options
    )
    volumes(tmp_path / "images", shapes, spacings, model.channels)
    model.nnunet(tmp_path / "images", tmp_path / "theirs", probabilities=True)
    model.ours(tmp_path / "images", tmp_path / "ours", save_probabilities=True)
    assert compare(tmp_path / "ours", tmp_path / "theirs", ".nii.gz") <= 1e-4
    for path in (tmp_path / "theirs").glob("*.npz"):
        mine, reference = np.load(tmp_path / "ours" / path.name), np.load(path)
        assert mine["probabilities"].dtype == reference["probabilities"].dtype
        np.testing.assert_allclose(mine["probabilities"], reference["probabilities"], atol=2e-2)
        assert abs(mine["probabilities"] - reference["probabilities"]).mean() < 1e-4


@pytest.mark.parametrize("colour", [False, True])
def test_pictures_as_nnunet(tmp_path, colour):
    channels = 3 if colour else 1
    scheme = "RGBTo01Normalization" if colour else "ZScoreNormalization"
    plans = plans_with((1.0, 1.0), (32, 48), (scheme,) * channels)
    model = Model(
        tmp_path / "bundle", plans, dataset_with(LABELS, None, channels), "NaturalImage2DIO", ".png", channels=channels
    )
    (tmp_path / "images").mkdir()
    generator = np.random.default_rng(1)
    for number, shape in enumerate([(50, 60), (20, 100)]):
        picture = generator.integers(0, 256, (*shape, 3) if colour else shape, dtype=np.uint8)
        imsave(tmp_path / "images" / f"p{number}_0000.png", picture, check_contrast=False)
    model.nnunet(tmp_path / "images", tmp_path / "theirs")
    model.ours(tmp_path / "images", tmp_path / "ours")
    assert compare(tmp_path / "ours", tmp_path / "theirs", ".png") <= 1e-4


def nnunet_of_folder(folder, images, ending, output, folds):
    """What `nnUNetv2_predict` does with a model folder, in this process."""
    output.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), folds, "checkpoint_final.pth")
        predict_sequentially(predictor, images, ending, output)


def ours_of_folder(folder, images, output, ending, **options):
    predictor = Predictor.from_folder(folder, **options)
    report = predict_folder(predictor, find_cases(images, ending, 1), output)
    assert [outcome.error for outcome in report.outcomes] == [""] * len(report.outcomes)
    return predictor


@pytest.mark.parametrize(
    ("trainer", "configuration", "folds", "labels"),
    [
        ("nnUNetTrainer", "2d", ("0", "1"), None),
        ("nnUNetTrainer", "3d_fullres", ("0",), REGIONS),
        ("nnSAMTrainer_sam64", "2d", ("0", "1"), None),
        ("nnSAMLevelSetOnlyTrainer", "2d", ("all",), None),
    ],
)
def test_model_folders_as_nnunet(tmp_path, trainer, configuration, folds, labels):
    plans = make_plans(stages=3, patch_size=(32, 48))
    plans["configurations"]["3d_fullres"].update(patch_size=[8, 16, 24], spacing=[2.0, 1.0, 1.0])
    axes = (0, 1) if configuration == "2d" else (0, 1, 2)
    ending = ".png" if configuration == "2d" else ".nii.gz"
    if ending == ".nii.gz":
        plans["image_reader_writer"] = "SimpleITKIO"
    folder = tmp_path / f"{trainer}__nnUNetPlans__{configuration}"
    write_model_folder(folder, trainer, configuration, folds, plans=plans, labels=labels, axes=axes)
    dataset = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**dataset, "file_ending": ending}))
    if ending == ".png":
        (tmp_path / "images").mkdir()
        for number, shape in enumerate([(50, 60), (20, 100)]):
            picture = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
            imsave(tmp_path / "images" / f"p{number}_0000.png", picture, check_contrast=False)
    else:
        volumes(tmp_path / "images", ((14, 40, 50), (9, 20, 61)), ((3.5, 0.8, 0.9), (2.0, 1.0, 1.0)))
    nnunet_of_folder(folder, tmp_path / "images", ending, tmp_path / "theirs", folds)
    predictor = ours_of_folder(folder, tmp_path / "images", tmp_path / "ours", ending)
    assert predictor.folds == folds
    assert compare(tmp_path / "ours", tmp_path / "theirs", ending) <= 1e-4


def test_the_identity_of_a_model_folder_follows_its_weights(tmp_path):
    folder = write_model_folder(tmp_path / "model", plans=make_plans(stages=3), folds=("0", "1"))
    first, again = (Predictor.from_folder(folder, "0").digest for _ in range(2))
    assert first == again != Predictor.from_folder(folder, "1").digest


def test_the_comparison_notices_a_difference(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        picture = np.zeros((10, 10), np.uint8)
        picture[0] = value
        imsave(tmp_path / name / "c.png", picture, check_contrast=False)
    assert compare(tmp_path / "a", tmp_path / "b", ".png") == 0.1


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grey") / "bundle"
    write_automatic(folder, folds=("0", "1"))
    return Predictor.open(folder, "f32", cache=False)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colour") / "bundle"
    write_automatic(folder, channels=3)
    return Predictor.open(folder, "f32", cache=False)


@pytest.fixture(scope="module")
def solid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("solid") / "bundle"
    write_automatic(folder, dimensions=3, patch_size=(8, 16, 16))
    return Predictor.open(folder, "f32", cache=False)


def test_arrays_and_files_give_the_same(grey, tmp_path):
    picture = np.random.default_rng(2).integers(0, 256, (40, 70), dtype=np.uint8)
    imsave(tmp_path / "p.png", picture, check_contrast=False)
    from_file = grey.predict_case([tmp_path / "p.png"])
    from_array = grey.predict(picture)
    assert from_file.segmentation.shape == (1, 40, 70)
    assert from_array.segmentation.shape == (40, 70)
    assert from_array.segmentation.dtype == np.uint8
    np.testing.assert_array_equal(from_file.segmentation[0], from_array.segmentation)
    np.testing.assert_array_equal(from_file.probabilities()[:, 0], from_array.probabilities())
    assert len(np.unique(from_array.segmentation)) > 1


def test_layouts_of_one_picture_agree(colour):
    picture = np.random.default_rng(3).normal(size=(3, 40, 60)).astype(np.float32)
    first = colour.predict(picture)
    for image, cut in ((np.moveaxis(picture, 0, -1), np.s_[:]), (picture[:, None], np.s_[0])):
        np.testing.assert_array_equal(colour.predict(image).segmentation[cut], first.segmentation)
    assert first.probabilities().shape == (3, 40, 60)


def test_probabilities_fit_the_segmentation(solid):
    prediction = solid.predict(np.random.default_rng(4).normal(size=(10, 20, 24)), spacing=(1.5, 1.0, 0.9))
    probabilities = prediction.probabilities()
    assert probabilities.shape == (3, 10, 20, 24)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-3)
    assert (probabilities.argmax(axis=0) == prediction.segmentation).mean() > 0.999


def test_no_spacing_is_that_of_the_model(solid):
    volume = np.random.default_rng(5).normal(size=(10, 20, 24))
    own = solid.bundle.manifest["preprocessing"]["spacing"]
    given, not_given = solid.predict(volume, spacing=own), solid.predict(volume)
    np.testing.assert_array_equal(given.segmentation, not_given.segmentation)
    other = solid.predict(volume, spacing=(own[0], 2 * own[1], own[2]))
    assert other.segmentation.shape == volume.shape
    assert (other.segmentation != not_given.segmentation).any()


def test_mirroring_and_step_matter(grey):
    picture = np.random.default_rng(6).normal(size=(80, 120))
    full = grey.predict(picture).probabilities()
    assert (grey.predict(picture, mirror=False).probabilities() != full).any()
    assert (grey.predict(picture, step=0.9).probabilities() != full).any()
    np.testing.assert_array_equal(grey.predict(picture, step=0.5).probabilities(), full)


def test_folds_can_be_chosen(grey):
    picture = np.random.default_rng(7).normal(size=(40, 60))
    both = grey.predict(picture).probabilities()
    single = [Predictor.open(grey.bundle, "f32", folds=[fold], cache=False) for fold in "01"]
    assert [predictor.folds for predictor in single] == [("0",), ("1",)]
    assert grey.folds == ("0", "1")
    assert all((predictor.predict(picture).probabilities() != both).any() for predictor in single)


def test_the_image_is_not_changed(grey):
    picture = np.random.default_rng(8).normal(size=(40, 60)).astype(np.float32)
    before = picture.copy()
    grey.predict(picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.zeros((3, 4, 5, 6)), {}, "takes images of shape"),
        (np.zeros((4, 5), complex), {}, "real numbers"),
        (np.zeros((0, 5)), {}, "no pixels"),
        (np.full((4, 5), np.nan), {}, "finite"),
        (np.zeros((4, 5)), {"step": 0}, "step"),
        (np.zeros((4, 5)), {"spacing": (1, 1, 1, 1)}, "spacing must be"),
    ],
)
def test_bad_arrays(grey, image, options, words):
    with pytest.raises(InputError, match=words):
        grey.predict(image, **options)


def test_files_with_other_channels(grey, colour, tmp_path):
    imsave(tmp_path / "grey.png", np.zeros((9, 9), np.uint8), check_contrast=False)
    imsave(tmp_path / "colour.png", np.zeros((9, 9, 3), np.uint8), check_contrast=False)
    with pytest.raises(InputError, match=r"grey\.png.* 1 channel, the model reads 3"):
        colour.predict_case([tmp_path / "grey.png"])
    with pytest.raises(InputError, match=r"colour\.png.* 3 channels, the model reads 1"):
        grey.predict_case([tmp_path / "colour.png"])


def test_only_automatic_bundles(tmp_path):
    write_box(tmp_path / "box")
    with pytest.raises(InputError, match="nnsam segment"):
        Predictor.open(tmp_path / "box")
    with pytest.raises(InputError, match="no bundle"):
        Predictor.open(tmp_path)
