"""What is fuzzed: a valid input of each kind, how it is damaged, and what reads it.

A target makes a damaged input from a random generator and gives it to the package. Whatever it raises but the package's
own errors in one sentence is a defect, and so is a result that no caller can use.
"""

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from helpers import mutations
from nnsam.errors import NnsamError

LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class Outcome:
    """What became of one input: "read", "refused", or a defect with what tells of it."""

    kind: str
    detail: str = ""

    @property
    def is_defect(self):
        return self.kind not in ("read", "refused")


def outcome_of(call: Callable[[], object]) -> Outcome:
    """Calls what reads an input and says what became of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except NnsamError as error:
        text = str(error)
        if "\n" in text.strip() or len(text) > LONGEST_MESSAGE:
            return Outcome("no sentence", f"{len(text)} characters: {text[:300]!r}")
        if not text.isprintable():
            return Outcome("unprintable message", repr(text[:300]))
        return Outcome("refused", text)
    except AssertionError as error:
        return Outcome("wrong result", str(error)[:300] or "assertion")
    except MemoryError as error:
        return Outcome("memory", repr(error)[:300])
    except Exception as error:
        import traceback

        frames = [
            f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-4:]
        ]
        return Outcome("trace", f"{type(error).__name__}: {str(error)[:200]} ({' '.join(frames)})")
    return Outcome("read")


def check_image(image):
    """Asserts what every caller of a reader relies on."""
    pixels = image.pixels
    assert pixels.size > 0, f"no pixels: {pixels.shape}"
    assert pixels.dtype.kind in "uifb", f"pixels of type {pixels.dtype}"
    assert np.isfinite(pixels).all(), "pixels that are not finite"
    spacing = image.spacing
    assert spacing is None or all(0 < size < np.inf for size in spacing), f"spacing {spacing}"


# --- Images and label maps: ending -> (a valid file, what damages it) ---

_PICTURE = np.arange(24 * 20, dtype=np.uint8).reshape(24, 20) % 200
_VOLUME = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8) % 5


def _pillow(form, **options):
    import PIL.Image

    target = io.BytesIO()
    PIL.Image.fromarray(_PICTURE).save(target, form, **options)
    return target.getvalue()


def _tiff(array, **options):
    import tifffile

    target = io.BytesIO()
    tifffile.imwrite(target, array, **options)
    return target.getvalue()


def _written(name, write):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        return path.read_bytes()


def _simpleitk(name):
    import SimpleITK

    def write(path):
        image = SimpleITK.GetImageFromArray(_VOLUME)
        image.SetSpacing((0.5, 0.75, 2.0))
        SimpleITK.WriteImage(image, str(path))

    return _written(name, write)


def _npz(**arrays):
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    return target.getvalue()


def _dicom(**options):
    from helpers.dicom_files import write_dicom

    return _written("a.dcm", lambda path: write_dicom(path, _VOLUME.astype(np.int16)[0], **options))


def _enhanced():
    from helpers.dicom_files import make_enhanced

    frames = make_enhanced(_VOLUME.astype(np.uint16), [(0, 0, 2 * index) for index in range(len(_VOLUME))])
    return _written("a.dcm", lambda path: frames.save_as(path, enforce_file_format=True))


def _seg():
    import tempfile

    from helpers.dicom_files import write_slices
    from nnsam.io import read_image, write_labels

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_slices(Path(folder, "series"), _VOLUME)
        image = read_image(Path(folder, "series"))
        path = Path(folder, "labels.dcm")
        write_labels(path, image.with_pixels((_VOLUME > 2).astype(np.uint8)))
        return path.read_bytes()


_BOXED = {"imgs": np.stack([_PICTURE] * 3, -1), "boxes": np.array([[2, 3, 10, 12]]), "gts": _PICTURE % 3}
FILES = {
    "png": (".png", lambda: _pillow("PNG"), mutations.damage_png),
    "jpeg": (".jpg", lambda: _pillow("JPEG"), mutations.damage),
    "bmp": (".bmp", lambda: _pillow("BMP"), mutations.damage),
    "tiff": (".tif", lambda: _tiff(_PICTURE), mutations.damage),
    "tiff pages": (".tif", lambda: _tiff(_VOLUME.astype(np.uint16), photometric="minisblack"), mutations.damage),
    "tiff deflate": (".tif", lambda: _tiff(_PICTURE, compression="zlib"), mutations.damage),
    "npz": (".npz", lambda: _npz(**_BOXED), mutations.damage_zip),
    "npz volume": (".npz", lambda: _npz(**{**_BOXED, "imgs": _VOLUME, "spacing": np.ones(3)}), mutations.damage_zip),
    "nifti": (".nii", lambda: _simpleitk("a.nii"), mutations.damage),
    "nifti gz": (".nii.gz", lambda: _simpleitk("a.nii.gz"), mutations.damage_gzip),
    "nrrd": (".nrrd", lambda: _simpleitk("a.nrrd"), mutations.damage_text),
    "mha": (".mha", lambda: _simpleitk("a.mha"), mutations.damage_text),
    "dicom": (".dcm", _dicom, mutations.damage),
    "dicom frames": (".dcm", _enhanced, mutations.damage),
    "dicom seg": (".dcm", _seg, mutations.damage),
}


@cache
def _valid(name):
    return FILES[name][1]()


def read_file(path, rng=None):
    """An image, its header and a label map, each as commands read it; nnU-Net's readers where one fits."""
    from nnsam.io.reading import read_header, read_image, read_labels

    calls = [lambda: check_image(read_image(path)), lambda: check_image(read_labels(path)), lambda: read_header(path)]
    readers = {".png": "NaturalImage2DIO", ".tif": "Tiff3DIO", ".nii": "NibabelIO", ".gz": "SimpleITKIO"}
    if path.suffix in readers:
        from nnsam.io.nnunet_readers import reader

        calls.append(lambda: reader(readers[path.suffix]).read_images([path]))
    calls[0 if rng is None else rng.integers(len(calls))]()


def _file_target(name):
    ending, _, damage = FILES[name]

    def run(folder, rng):
        path = folder / f"image{ending}"
        path.write_bytes(damage(_valid(name), rng))
        read_file(path, rng)

    return run


# --- Bundles ---


@cache
def _bundle(kind):
    import tempfile

    from helpers import bundles

    folder = Path(tempfile.mkdtemp(prefix="nnsam_fuzz_"), "bundle")
    if kind == "box":
        bundles.write_box(folder)
    else:
        bundles.write_automatic(folder, patch_size=(16, 32), sam=kind == "sam")
    return folder


def _bundle_target(kind):
    def run(folder, rng):
        import shutil

        from nnsam.inference.bundle import MANIFEST, manifest_digest

        copy = Path(shutil.copytree(_bundle(kind), folder / "bundle"))
        if rng.random() < 0.05:  # damage that the hashes find
            path = sorted(copy.iterdir())[rng.integers(len(list(copy.iterdir())))]
            path.write_bytes(mutations.damage(path.read_bytes(), rng))
        else:
            content = mutations.damage_json(json.loads((copy / MANIFEST).read_text()), rng)
            if isinstance(content, dict):
                content["digest"] = manifest_digest(content)
            (copy / MANIFEST).write_bytes(mutations.json_text(content, rng))
        use_bundle(copy)

    return run


def use_bundle(folder):
    """Opens a bundle and computes a picture."""
    from nnsam.inference.bundle import Bundle
    from nnsam.inference.openvino_backend import OpenVINOBackend

    backend = OpenVINOBackend(Bundle.open(folder), "f32", threads=1, cache=False)
    picture = _PICTURE.astype(np.float32)
    if backend.manifest["kind"] == "box":
        from nnsam.inference.box.predictor import BoxPredictor

        mask = BoxPredictor(backend).set_image(_PICTURE).predict([2, 3, 10, 12]).label_map()
        assert mask.shape == _PICTURE.shape
    else:
        from nnsam.inference.automatic.predictor import Predictor

        mask = Predictor(backend, 1).predict(picture).segmentation
        assert mask.shape == picture.shape


# --- Boxes ---

_BOXES = [
    [[2, 3, 10, 12]],
    {"boxes": [[2, 3, 10, 12], [0, 0, 5, 5]], "labels": [3, 4]},
    {"a.png": [[2, 3, 10, 12]], "b.png": {"boxes": [[1, 1, 2, 2]], "labels": [1]}},
]


def _boxes_target(folder, rng):
    path = folder / "boxes.json"
    content = mutations.damage_json(_BOXES[rng.integers(len(_BOXES))], rng)
    path.write_bytes(mutations.json_text(content, rng))
    use_boxes(path)


def use_boxes(path):
    """Finds the boxes of a picture in a file."""
    from nnsam.io.finding import InputFile
    from nnsam.io.image import Image
    from nnsam.prompts.box_files import open_box_source

    file = InputFile(path.with_name("a.png"), "picture", "a", "a")
    found = open_box_source(path=path)(file, Image(_PICTURE, 2))
    assert len(found.boxes) == len(found.labels) > 0
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= _PICTURE.shape).all()


# --- Model folders and names of trainers ---


@cache
def _model_folder(kind):
    import tempfile

    from helpers.fakes import write_model
    from helpers.model_folders import write_model_folder

    folder = Path(tempfile.mkdtemp(prefix="nnsam_fuzz_"), "model")
    if kind == "box":
        write_model(folder)
    else:
        write_model_folder(folder)
    return folder


def _model_target(kind):
    def run(folder, rng):
        import shutil

        copy = Path(shutil.copytree(_model_folder(kind), folder / "model"))
        path = copy / ("plans.json" if rng.random() < 0.7 else "dataset.json")
        path.write_bytes(mutations.json_text(mutations.damage_json(json.loads(path.read_text()), rng), rng))
        use_model(copy)

    return run


def use_model(folder):
    """Reads a model folder, describes it and builds its networks."""
    from nnsam.nnunet.description import describe
    from nnsam.nnunet.model_folder import load_trained_model

    model = load_trained_model(folder)
    describe(model)
    for _ in model.networks():
        pass


def _checkpoint_target(folder, rng):
    import shutil

    import torch

    copy = Path(shutil.copytree(_model_folder("automatic"), folder / "model"))
    path = copy / "fold_0" / "checkpoint_final.pth"
    if rng.random() < 0.4:
        path.write_bytes(mutations.damage_zip(path.read_bytes(), rng))
    else:
        content = torch.load(path, weights_only=True)
        weights = content.pop("network_weights")
        damaged = mutations.damage_json(content, rng)
        if isinstance(damaged, dict) and rng.random() < 0.9:
            damaged["network_weights"] = weights
        torch.save(damaged, path)
    use_model(copy)


_WORDS = (
    "nnSAMTrainer",
    "nnSAMBoxTrainer",
    "nnUNetTrainer",
    "_2epochs",
    "_sam256",
    "_seed3",
    "_ls30",
    "_curv0",
    "_5iters",
)


def _trainer_target(folder, rng):
    words = [str(_WORDS[rng.integers(len(_WORDS))]) for _ in range(rng.integers(1, 5))]
    place = int(rng.integers(len(words)))
    if rng.random() < 0.5:
        digits = (
            str(mutations.TEXTS[rng.integers(len(mutations.TEXTS))])
            if rng.random() < 0.5
            else str(mutations.number(rng))
        )
        words[place] = words[place].rstrip("0123456789") + digits
    use_trainer_name("".join(words))


def use_trainer_name(name):
    """Looks for a trainer as a command that was given its name does."""
    from nnsam.nnunet.model_folder import find_trainer

    find_trainer(name, Path("model"))


TARGETS: dict[str, Callable] = {
    **{name: _file_target(name) for name in FILES},
    **{f"bundle {kind}": _bundle_target(kind) for kind in ("box", "automatic", "sam")},
    "boxes": _boxes_target,
    "model box": _model_target("box"),
    "model automatic": _model_target("automatic"),
    "checkpoint": _checkpoint_target,
    "trainer name": _trainer_target,
}


def _hang(folder, rng):
    while True:
        pass


def _crash(folder, rng):
    import os

    os._exit(11)


def _trace(folder, rng):
    return {}["nothing"]


# What the campaign has to notice; used by its own tests alone.
EXAMPLES = {"hang": _hang, "crash": _crash, "trace": _trace, "read": lambda folder, rng: None}
