"""Exported models without PyTorch and nnU-Net: an environment that holds only the packages that the README names."""

import json
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from helpers.bundles import write_automatic, write_box
from helpers.dicom_files import write_slices
from packaging.requirements import Requirement
from skimage.io import imread, imsave

from nnsam.io import read_labels
from nnsam.runtime import BoxPredictor, Predictor

REPOSITORY = Path(__file__).resolve().parents[2]
# Installed beside `pip install --no-deps nnsam`.
REQUIREMENTS = (
    *("openvino", "numpy", "scipy", "scikit-image", "pillow", "tifffile", "imagecodecs", "SimpleITK", "nibabel"),
    *("rich", "platformdirs"),
    *("pydicom", "highdicom", "python-gdcm", "pylibjpeg", "pylibjpeg-openjpeg"),  # for DICOM
)
FORBIDDEN = ("torch", "nnunetv2", "timm", "torchvision", "pandas", "sklearn", "matplotlib", "requests", "pooch", "ray")


def closure(names) -> set[str]:
    """Names of packages and of all that they depend on, without extras."""
    found, todo = set(), list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # one for another platform
            continue
        found.add(name)
        needed = (Requirement(text) for text in requires)
        todo += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment with these packages, and nnsam as `pip install --no-deps` leaves it."""
    folder = tmp_path_factory.mktemp("minimal")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    here = Path(sysconfig.get_path("purelib"))
    for name in closure(REQUIREMENTS):
        for file in distribution(name).files or []:
            top = Path(file).parts[0]
            if top not in ("..", "__pycache__") and (here / top).exists() and not (packages / top).exists():
                (packages / top).symlink_to(here / top)
    (packages / "nnsam").symlink_to(REPOSITORY / "nnsam")
    (packages / "nnsam.pth").write_text("import nnsam._autoload; nnsam._autoload.register()\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Bundles and images of every kind."""
    folder = tmp_path_factory.mktemp("data")
    write_automatic(folder / "flat")
    write_automatic(folder / "deep", dimensions=3)
    write_automatic(folder / "colour", channels=3, sam=True)
    write_box(folder / "box")
    rng = np.random.default_rng(0)
    for name, shape in (("flat", (60, 70)), ("colour", (60, 70, 3))):
        path = folder / f"{name}_images" / "case_0000.png"
        path.parent.mkdir()
        imsave(path, rng.integers(0, 256, shape, dtype=np.uint8), check_contrast=False)
    (folder / "deep_images").mkdir()
    volume = nibabel.Nifti1Image(rng.normal(100, 30, (40, 36, 12)).astype(np.float32), np.diag([1.2, 1, 2, 1]))
    nibabel.save(volume, folder / "deep_images" / "case_0000.nii.gz")
    return folder


def call(python, *command, expect=0):
    process = subprocess.run([python, *map(str, command)], capture_output=True, text=True, check=False)
    assert process.returncode == expect, process.stdout + process.stderr
    return process.stdout + process.stderr


def nnsam(python, *arguments, expect=0):
    return call(python, "-m", "nnsam", *arguments, expect=expect)


def test_the_environment_lacks_what_it_should_lack(python):
    code = f"from importlib.util import find_spec; print([n for n in {FORBIDDEN} if find_spec(n)], 'started')"
    assert call(python, "-c", code) == "[] started\n"
    assert call(python, "-c", "import openvino, skimage, SimpleITK, nibabel, nnsam") == ""
    assert "No module named 'torch'" in call(python, "-c", "import nnsam.networks.sam_branch", expect=1)


@pytest.mark.parametrize("model", ["flat", "colour", "deep"])
def test_predict_gives_the_same_as_here(python, data, tmp_path, model):
    images = data / f"{model}_images"
    nnsam(python, "predict", data / model, "-i", images, "-o", tmp_path, "--precision", "f32")
    (image,) = images.iterdir()
    expected = Predictor.open(data / model, "f32").predict_case([image]).segmentation
    if model == "deep":
        found = nibabel.load(tmp_path / "case.nii.gz").get_fdata().transpose()
    else:
        found = imread(tmp_path / "case.png")
    np.testing.assert_array_equal(found, expected.reshape(found.shape))
    assert len(np.unique(found)) > 1


def test_segment_gives_the_same_as_here(python, data, tmp_path):
    image, box = data / "flat_images" / "case_0000.png", [10, 12, 40, 45]
    text = ",".join(map(str, box))
    arguments = ("--box", text, "-o", tmp_path / "mask.png", "--overlay", "--precision", "f32")
    nnsam(python, "segment", data / "box", "-i", image, *arguments)
    expected = BoxPredictor.open(data / "box", "f32").set_image(imread(image)).predict([box]).label_map()
    np.testing.assert_array_equal(imread(tmp_path / "mask.png"), expected)
    assert imread(tmp_path / "mask_overlay.png").ndim == 3

    volume = data / "deep_images" / "case_0000.nii.gz"
    nnsam(python, "segment", data / "box", "-i", volume, "--box", "10,12,3,30,33,8", "-o", tmp_path / "mask.nii.gz")
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == (40, 36, 12)


@pytest.mark.slow
def test_one_volume_in_every_format_gives_one_mask(python, data, tmp_path):
    volume = np.random.default_rng(1).integers(0, 900, (8, 40, 36)).astype(np.int16)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((0.5, 0.75, 2.5))
    for name in ("v.nii.gz", "v.nrrd", "v.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
    tifffile.imwrite(tmp_path / "v.tif", volume, photometric="minisblack", compression="lzw")
    np.savez(tmp_path / "v.npz", imgs=volume, spacing=[0.5, 0.75, 2.5])
    write_slices(tmp_path / "scan", volume, spacing=(0.75, 0.5))
    masks = {}
    for source, target in (
        *(("v.npz", "o.npz"), ("v.nii.gz", "o.nii.gz"), ("v.nrrd", "o.nrrd"), ("v.mha", "o.mha"), ("v.tif", "o.tif")),
        *(("scan", "scan.nii.gz"), ("scan", "scan.dcm")),
    ):
        arguments = ("--box", "4,5,1,30,33,6", "-o", tmp_path / target, "--precision", "f32")
        nnsam(python, "segment", data / "box", "-i", tmp_path / source, *arguments)
        masks[target] = read_labels(tmp_path / target).pixels
    assert masks["o.npz"].any()
    assert masks.pop("o.tif").any()  # it states no pixel size, to which this model brings images
    assert {name for name, mask in masks.items() if not np.array_equal(mask, masks["o.npz"])} == set()
    nnsam(python, "evaluate", "-p", tmp_path / "scan.dcm", "-r", tmp_path / "scan.nii.gz")


def test_doctor_says_that_it_is_a_runtime_only_installation(python):
    report = json.loads(nnsam(python, "doctor", "--json"))
    assert report["healthy"] is True
    levels = {finding["topic"]: finding["level"] for finding in report["findings"]}
    assert levels == {
        "installation": "note",
        "versions": "ok",
        "packages": "ok",
        "processor": "ok",
        "OpenVINO CPU": "ok",
    }
    assert "runtime-only installation: predict and segment with exported models" in report["findings"][0]["found"]


def test_doctor_fails_where_openvino_or_a_reader_is_missing(python):
    packages = next(python.parents[1].glob("lib/python*/site-packages"))
    links = {name: (packages / name).readlink() for name in ("openvino", "SimpleITK")}
    try:
        for name in links:
            (packages / name).unlink()
        report = json.loads(nnsam(python, "doctor", "--json", expect=1))
    finally:
        for name, target in links.items():
            (packages / name).symlink_to(target)
    mends = {finding["topic"]: finding["mend"] for finding in report["findings"] if finding["level"] == "FAIL"}
    assert mends == {"packages": "pip install SimpleITK", "OpenVINO": 'pip install "openvino>=2025.4"'}


def test_a_model_folder_of_training_is_refused_in_a_sentence(python, data, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("plans.json", "dataset.json"):
        (tmp_path / "model" / name).write_text("{}")
    image = data / "flat_images" / "case_0000.png"
    output = nnsam(python, "segment", tmp_path / "model", "-i", image, "--box", "1,2,30,40", "-o", "x.png", expect=1)
    assert "Traceback" not in output
    output = nnsam(python, "predict", tmp_path / "model", "-i", image, "-o", tmp_path / "out", expect=1)
    assert "export it first" in output


def test_ray_is_named_where_it_is_missing(python, data, tmp_path):
    output = nnsam(python, "predict", data / "flat", "-i", data / "flat_images", "-o", tmp_path, "--ray", expect=1)
    assert "pip install" in output
    assert "Traceback" not in output


def test_the_serving_example_starts(python, data):
    example = REPOSITORY / "examples" / "serve_bundle" / "serve.py"
    process = subprocess.Popen([python, example, data / "box", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert "at http://127.0.0.1:" in process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def test_the_closure_of_requirements_is_what_pip_installs():
    assert closure(["rich"]) == {"rich", "markdown-it-py", "pygments", "mdurl"}
    assert "torch" in closure(["nnunetv2"])
    assert not closure(REQUIREMENTS) & {"torch", "nnunetv2", "timm", "pandas", "scikit-learn", "matplotlib"}
