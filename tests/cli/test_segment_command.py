"""`nnsam segment` from files to files, with a stand-in for the network."""

import json
import locale
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from helpers.dicom_files import write_slices
from helpers.fake_predictor import FakePredictor
from helpers.processes import raise_signal
from PIL import Image

from nnsam.cli.main import main
from nnsam.inference.folders import segment as segment_files
from nnsam.io.overlay import COLORS, FILL
from nnsam.io.reading import read_labels
from nnsam.support.files import atomic_file

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
VOLUME = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)


@pytest.fixture
def predictor(monkeypatch):
    fake = FakePredictor()
    monkeypatch.setattr(segment_files, "load_predictor", lambda folder, **_: (fake, ""))
    return fake


def segment(*words) -> int:
    return main(["segment", "model", *map(str, words)])


def save_volume(path, values=VOLUME, spacing=(0.5, 0.75, 4.0), origin=(1.0, 2.0, 3.0)):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))


def boxed(shape, *boxes):
    """Label map of boxes, each a tuple of slices."""
    labels = np.zeros(shape, np.uint8)
    for value, box in enumerate(boxes, 1):
        labels[box] = value
    return labels


EXPECTED = boxed((6, 8), np.s_[1:3, 2:6], np.s_[4:6, 7:8])
BOXES = ("--box", "2,1,5,2", "--box", "7,4,7,5")


@pytest.mark.parametrize(
    ("name", "output"),
    [("a.png", "o.png"), ("a.jpg", "o.png"), ("a.bmp", "new/o.png"), ("a.png", "o.tif"), ("a.tif", "o.tiff")],
)
@pytest.mark.parametrize("pixels", [GREY, COLOUR])
def test_pictures(predictor, tmp_path, name, output, pixels):
    Image.fromarray(pixels).save(tmp_path / name)
    assert segment("-i", tmp_path / name, *BOXES, "-o", tmp_path / output) == 0
    found = read_labels(tmp_path / output).pixels
    np.testing.assert_array_equal(found, EXPECTED)
    assert found.dtype == np.uint8
    assert predictor.modes == ["zoom"]
    assert predictor.images[0][0].shape == pixels.shape
    assert predictor.images[0][1] is None


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nrrd", "v.mha"])
def test_volumes(predictor, tmp_path, name):
    save_volume(tmp_path / name)
    options = ("--box", "2,1,0,5,2,2", "-o", tmp_path / f"o_{name}", "--mode", "faithful")
    assert segment("-i", tmp_path / name, *options) == 0
    found = sitk.ReadImage(str(tmp_path / f"o_{name}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), boxed((4, 6, 8), np.s_[0:3, 1:3, 2:6]))
    assert found.GetSpacing() == (0.5, 0.75, 4.0)
    assert found.GetOrigin() == (1, 2, 3)
    assert predictor.images[0][1] == (4.0, 0.75, 0.5)
    assert predictor.modes == ["faithful"]


def test_stacks_single_slices_and_flat_files(predictor, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME.astype(np.uint16), photometric="minisblack")
    assert segment("-i", tmp_path / "a.tif", "--box", "2,1,1,5,2,1", "-o", tmp_path / "o.tif") == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "o.tif").pixels, boxed((4, 6, 8), np.s_[1:2, 1:3, 2:6]))
    save_volume(tmp_path / "slice.nii.gz", GREY[None])
    save_volume(tmp_path / "flat.nii.gz", GREY, (0.5, 0.75), (1.0, 2.0))
    for name, size in (("slice", (8, 6, 1)), ("flat", (8, 6))):
        assert segment("-i", tmp_path / f"{name}.nii.gz", *BOXES, "-o", tmp_path / f"{name}_o.nii.gz") == 0
        found = sitk.ReadImage(str(tmp_path / f"{name}_o.nii.gz"))
        assert found.GetSize() == size
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found).reshape(6, 8), EXPECTED)
        assert predictor.images[-1][1] == (0.75, 0.5)


@pytest.mark.parametrize(
    ("image", "boxes", "expected"),
    [
        (GREY, [[2, 1, 5, 2], [7, 4, 7, 5]], EXPECTED),
        (COLOUR, [[2, 1, 5, 2], [7, 4, 7, 5]], EXPECTED),
        (VOLUME, [[2, 1, 0, 5, 2, 2]], boxed((4, 6, 8), np.s_[0:3, 1:3, 2:6])),
    ],
)
def test_challenge_files_bring_their_boxes(predictor, tmp_path, image, boxes, expected):
    np.savez(tmp_path / "a.npz", imgs=image, boxes=np.array(boxes, np.int32), spacing=np.array([0.5, 0.75, 4.0]))
    assert segment("-i", tmp_path / "a.npz", "-o", tmp_path / "out") == 0
    with np.load(tmp_path / "out" / "a.npz") as archive:
        np.testing.assert_array_equal(archive["segs"], expected)
        assert archive["segs"].dtype == np.uint8
    assert predictor.images[0][1] == ((4.0, 0.75, 0.5) if expected.ndim == 3 else (0.75, 0.5))


def test_many_objects_need_16_bits(predictor, tmp_path):
    boxes = [[x, y, x, y] for y in range(20) for x in range(15)]
    np.savez(tmp_path / "a.npz", imgs=np.zeros((20, 15), np.uint8), boxes=boxes)
    assert segment("-i", tmp_path / "a.npz", "-o", tmp_path / "o.npz", "--overlay") == 0
    with np.load(tmp_path / "o.npz") as archive:
        assert archive["segs"].dtype == np.uint16
        np.testing.assert_array_equal(archive["segs"], np.arange(1, 301).reshape(20, 15))


def write_series(folder):
    folder.mkdir()
    before = locale.setlocale(locale.LC_ALL)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, pixels in enumerate(VOLUME):
        image = sitk.GetImageFromArray(pixels[None])
        image.SetSpacing((0.5, 0.75, 4.0))
        tags = {"0020|0032": f"1\\2\\{3 + 4 * index}", "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": "4"}
        for key, value in {"0008|0060": "MR", "0020|000e": "1.2.3", "0020|000d": "1.2", **tags}.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{index}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # writing DICOM resets it, and Python then takes text files for ASCII


def test_dicom_becomes_nifti(predictor, tmp_path):
    write_series(tmp_path / "scan")
    for output, written in (("o.nii.gz", "o.nii.gz"), ("out", "out/scan.nii.gz"), ("o.mha", "o.mha")):
        assert (
            segment(
                "-i", tmp_path / "scan", "--box", "2,1,0,5,2,2", "-o", tmp_path / output, "--overlay", "--overwrite"
            )
            == 0
        )
        found = sitk.ReadImage(str(tmp_path / written))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), boxed((4, 6, 8), np.s_[0:3, 1:3, 2:6]))
        assert found.GetSpacing() == pytest.approx((0.5, 0.75, 4.0))
        assert found.GetOrigin() == pytest.approx((1, 2, 3))
    assert (tmp_path / "o_overlay.png").is_file()
    assert (tmp_path / "out" / "overlays" / "scan.png").is_file()


def test_label_images_prompt_and_keep_their_values(predictor, tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(EXPECTED * 40).save(tmp_path / "mask.png")
    assert segment("-i", tmp_path / "a.png", "--boxes", tmp_path / "mask.png", "-o", tmp_path / "o.png") == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "o.png").pixels, EXPECTED * 40)


def test_json_holds_what_the_files_hold(predictor, tmp_path, capsys):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text(json.dumps({"boxes": [[2, 1, 5, 2], [5, 1, 7, 5]], "labels": [9, 4]}))
    words = ("-i", tmp_path / "a.png", "--boxes", tmp_path / "boxes.json", "-o", tmp_path / "o.png", "--json")
    assert segment(*words, "-") == 0
    printed = json.loads(capsys.readouterr().out)
    assert segment(*words, tmp_path / "new" / "r.json", "--overwrite") == 0
    assert str(tmp_path / "o.png") in capsys.readouterr().out
    written = json.loads((tmp_path / "new" / "r.json").read_text())
    for content in (printed, written):
        (case,) = content["cases"]
        assert case.pop("seconds") > 0
        assert case == {
            "file": str(tmp_path / "a.png"),
            "output": str(tmp_path / "o.png"),
            "boxes": [[2, 1, 5, 2], [5, 1, 7, 5]],
            "labels": [9, 4],
            "scores": [1.0, 0.5],
            "areas": [6, 15],
            "areas_mm2": None,
            "volumes_ml": None,
            "notices": [],
            "outputs": [],
            "skipped": False,
        }
        assert (content["mode"], content["failures"]) == ("zoom", [])
    found = read_labels(tmp_path / "o.png").pixels
    assert [int((found == value).sum()) for value in (9, 4)] == [6, 15]


def test_overlay_shows_mask_and_box(predictor, tmp_path):
    Image.fromarray(np.full((60, 80), 90, np.uint8)).save(tmp_path / "a.png")
    options = ("--box", "20,10,59,49", "-o", tmp_path / "o.png", "--overlay", "--probabilities")
    assert segment("-i", tmp_path / "a.png", *options) == 0
    picture = np.asarray(Image.open(tmp_path / "o_overlay.png")).astype(int)
    assert picture.shape[1:] == (480, 3)
    assert picture.shape[0] > 360  # the legend
    filled = np.round(90 + FILL * (np.array(COLORS[0]) - 90))
    np.testing.assert_allclose(picture[150, 200], filled, atol=1)
    assert tuple(picture[58, 200].tolist()) == COLORS[0]
    assert picture[5, 5].tolist() == [90, 90, 90]
    with np.load(tmp_path / "o_probabilities.npz") as archive:
        assert archive["boxes"].tolist() == [[10, 20, 50, 60]]
        assert archive["probability_0"].shape == (40, 40)
        assert archive["labels"].tolist() == [1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.tif", "c.jpg"):
        Image.fromarray(GREY).save(tmp_path / "in" / name)
    np.savez(tmp_path / "in" / "d.npz", imgs=GREY, boxes=[[2, 1, 5, 2], [7, 4, 7, 5]])
    save_volume(tmp_path / "in" / "e.nii.gz", GREY, (0.5, 0.75), (1.0, 2.0))
    (tmp_path / "in" / "notes.txt").write_text("")
    return tmp_path / "in"


OUTPUTS = ["a.png", "b.tif", "c.png", "d.npz", "e.nii.gz"]


RECORD = "nnsam_segment.json"


def names(path):
    """Of files and folders, but for the record of the run."""
    return sorted(file.name for file in path.iterdir() if file.name != RECORD)


def test_a_folder_is_done_file_by_file(predictor, folder, tmp_path, capsys):
    assert segment("-i", folder, *BOXES, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == OUTPUTS
    for name in ("a.png", "b.tif", "c.png", "e.nii.gz"):
        np.testing.assert_array_equal(read_labels(tmp_path / "out" / name).pixels, EXPECTED)
    captured = capsys.readouterr()
    assert captured.out.count(": 2 objects, scores 0.50 to 1.00, ") == 5
    assert captured.err == ""


def test_folders_of_images_and_labels_are_matched_by_name(predictor, folder, tmp_path):
    (tmp_path / "labels").mkdir()
    (folder / "a.png").rename(folder / "a_0000.png")
    for name in "abcde":
        Image.fromarray(EXPECTED * 3).save(tmp_path / "labels" / f"{name}.png")
    assert segment("-i", folder, "--boxes", tmp_path / "labels", "-o", tmp_path / "out", "--overlay") == 0
    assert names(tmp_path / "out") == [*OUTPUTS, "overlays"]
    assert names(tmp_path / "out" / "overlays") == [f"{name}.png" for name in "abcde"]
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a.png").pixels, EXPECTED * 3)


def test_a_failure_in_the_middle_is_listed_and_the_others_are_done(predictor, folder, tmp_path, capsys):
    (folder / "b.tif").write_bytes((folder / "b.tif").read_bytes()[:60])
    np.savez(folder / "d.npz", imgs=GREY, gts=EXPECTED)
    boxes = {name: [[2, 1, 5, 2], [7, 4, 7, 5]] for name in ("a", "b", "c.jpg")}
    (tmp_path / "boxes.json").write_text(json.dumps({**boxes, "e": [[0, 0, 99, 99]], "d": [[1, 1, 2, 2]]}))
    words = ("-i", folder, "-o", tmp_path / "out", "--json", tmp_path / "r.json")
    assert segment(*words, "--boxes", tmp_path / "boxes.json") == 1
    assert names(tmp_path / "out") == ["a.png", "c.png", "d.npz"]
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    lines = captured.err.splitlines()
    assert lines[0] == "nnsam segment: 2 of 5 inputs failed:"
    assert "b.tif cannot be read" in lines[1]
    assert "e: " in lines[2]
    assert "reaches beyond the image" in lines[2]
    assert len(lines) == 3
    content = json.loads((tmp_path / "r.json").read_text())
    assert [len(content["cases"]), len(content["failures"])] == [3, 2]
    # Without boxes for pictures, and with an npz that has labels only.
    assert segment("-i", folder, "-o", tmp_path / "out2") == 1
    error = capsys.readouterr().err
    assert "d.npz holds gts but no boxes; save the boxes" in error
    assert "a.png needs boxes; give --box or --boxes." in error


def bad_setup(tmp_path, kind):
    """Words for a call that has to fail, one per kind of mistake."""
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for name in ("v.nii.gz", "m.nii"):
        save_volume(tmp_path / name)
    output = ("-o", tmp_path / "o.png")
    return {
        "absent": ("-i", tmp_path / "x.png", *BOXES, *output),
        "no boxes": ("-i", tmp_path / "a.png", *output),
        "outside": ("-i", tmp_path / "a.png", "--box", "0,0,9,5", *output),
        "inverted": ("-i", tmp_path / "a.png", "--box", "5,0,2,5", *output),
        "nan": ("-i", tmp_path / "a.png", "--box", "nan,0,2,5", *output),
        "volume box": ("-i", tmp_path / "a.png", "--box", "0,0,0,1,1,1", *output),
        "mixed boxes": ("-i", tmp_path / "a.png", "--box", "0,0,1,1", "--box", "0,0,0,1,1,1", *output),
        "picture box": ("-i", tmp_path / "v.nii.gz", "--box", "0,0,1,1", "-o", tmp_path / "o.nii.gz"),
        "ending": ("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.nii.gz"),
        "jpeg output": ("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.jpg"),
        "overwrite": ("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "a.png"),
        "overwrite folder": ("-i", tmp_path, *BOXES, "-o", tmp_path),
        "overwrite boxes": ("-i", tmp_path / "v.nii.gz", "--boxes", tmp_path / "m.nii", "-o", tmp_path / "m.nii"),
        "file for folder": ("-i", tmp_path, *BOXES, "-o", tmp_path / "a.png"),
        "boxes file": ("-i", tmp_path / "a.png", "--boxes", tmp_path / "x.json", *output),
        "json": ("-i", tmp_path / "a.png", *BOXES, *output, "--json", tmp_path),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("absent", "does not exist"),
        ("no boxes", "needs boxes"),
        ("outside", "reaches beyond"),
        ("inverted", "x_min > x_max"),
        ("nan", "finite"),
        ("volume box", "without z"),
        ("mixed boxes", "expected boxes as"),
        ("picture box", "z_min"),
        ("ending", "ending with .png, .tif, .tiff, or a folder"),
        ("jpeg output", "ending with .png"),
        ("overwrite", "would be overwritten"),
        ("overwrite folder", "would be overwritten"),
        ("overwrite boxes", "would be overwritten"),
        ("file for folder", "is a file"),
        ("boxes file", "cannot be read"),
        ("json", "is a folder"),
    ],
)
def test_failures_are_one_sentence_and_change_nothing(predictor, tmp_path, capsys, kind, words):
    call = bad_setup(tmp_path, kind)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    assert segment(*call) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_label_images_are_not_overwritten_either(predictor, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "a.png")
    Image.fromarray(EXPECTED).save(tmp_path / "labels" / "a.png")
    assert segment("-i", tmp_path / "in", "--boxes", tmp_path / "labels", "-o", tmp_path / "labels") == 1
    assert "would be overwritten" in capsys.readouterr().err


def test_two_inputs_of_one_output_are_named(predictor, folder, tmp_path, capsys):
    Image.fromarray(GREY).save(folder / "a.bmp")
    assert segment("-i", folder, *BOXES, "-o", tmp_path / "out") == 1
    assert "a.bmp and a.png would both be written to" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_interruption_keeps_what_is_complete_and_the_old_file(predictor, folder, tmp_path, monkeypatch, capsys):
    real = segment_files.write_labels

    def interrupted(path, labels, **options):
        if path.name == "c.png":
            monkeypatch.setattr("PIL.Image.Image.save", stop)
        real(path, labels, **options)

    def stop(picture, draft):
        draft.write_bytes(b"half")
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").write_text("old")
    monkeypatch.setattr(segment_files, "write_labels", interrupted)
    words = ("-i", folder, *BOXES, "-o", tmp_path / "out", "--json", tmp_path / "r.json", "--overwrite")
    assert segment(*words) == 130
    assert names(tmp_path / "out") == ["a.png", "b.tif", "c.png"]
    assert (tmp_path / "out" / "c.png").read_text() == "old"
    assert not (tmp_path / "r.json").exists()
    errors = capsys.readouterr().err
    assert "interrupted" in errors
    assert "2 of 5 inputs are done; --continue goes on with the rest" in errors
    monkeypatch.undo()
    monkeypatch.setattr(segment_files, "load_predictor", lambda folder, **_: (predictor, ""))
    assert segment(*words, "--continue") == 0
    assert capsys.readouterr().out.count("was done before") == 2
    cases = json.loads((tmp_path / "r.json").read_text())["cases"]
    assert [case["skipped"] for case in cases] == [True, True, False, False, False]
    assert all(case["areas"] == [8, 2] and case["scores"] == [1.0, 0.5] for case in cases)
    for name in ("a.png", "b.tif", "c.png", "e.nii.gz"):
        np.testing.assert_array_equal(read_labels(tmp_path / "out" / name).pixels, EXPECTED)


def done(words, capsys):
    """How many of a run's cases were done, and how many had been done before."""
    assert segment(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    before = sum("was done before" in line for line in lines)
    return len(lines) - before, before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_no_failure_of_a_case(predictor, folder, tmp_path, monkeypatch, capsys, number, code):
    monkeypatch.setattr(signal, "default_int_handler", signal.getsignal(signal.SIGINT))

    def signalled(boxes, mode="zoom"):
        try:
            raise_signal(number)
        except KeyboardInterrupt as error:  # as native code does with what is raised while it runs
            raise RuntimeError("an exception of the network") from error

    monkeypatch.setattr(predictor, "predict_inside", signalled)
    assert segment("-i", folder, *BOXES, "-o", tmp_path / "out") == code
    errors = capsys.readouterr().err
    assert "0 of 5 inputs are done" in errors
    assert errors.splitlines()[-1] == f"nnsam segment: {'terminated' if code == 143 else 'interrupted'}"


def test_a_folder_is_continued_case_by_case(predictor, folder, tmp_path, capsys):
    (folder / "d.npz").unlink()
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({name: [[2, 1, 5, 2]] for name in "abce"}))
    words = ("-i", folder, "--boxes", boxes, "-o", tmp_path / "out", "--overlay", "--continue")
    assert done(words, capsys) == (4, 0)
    assert done(words, capsys) == (0, 4)
    (folder / "a.png").touch()
    assert done(words, capsys) == (0, 4)
    Image.fromarray(255 - GREY).save(folder / "a.png")  # another picture
    assert done(words, capsys) == (1, 3)
    (tmp_path / "out" / "overlays" / "b.png").unlink()
    assert done(words, capsys) == (1, 3)
    boxes.write_text(json.dumps({**{name: [[2, 1, 5, 2]] for name in "abc"}, "e": [[2, 1, 5, 3]]}))
    assert done(words, capsys) == (1, 3)
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "e.nii.gz").pixels, boxed((6, 8), np.s_[1:4, 2:6]))
    assert done((*words[:-1],), capsys) == (4, 0)  # without --continue, its own outputs are replaced


def test_files_elsewhere_are_no_outputs_of_a_case(predictor, tmp_path, monkeypatch, capsys):
    """As a compiled network, which the first case puts into a cache."""
    (tmp_path / "in").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "a.png")
    real = predictor.predict_inside

    def compiling(boxes, mode="zoom"):
        with atomic_file(tmp_path / "cache" / "network.blob") as draft:
            draft.write_bytes(b"compiled")
        return real(boxes, mode)

    monkeypatch.setattr(predictor, "predict_inside", compiling)
    words = ("-i", tmp_path / "in", *BOXES, "-o", tmp_path / "out", "--continue")
    assert done(words, capsys) == (1, 0)
    assert done(words, capsys) == (0, 1)
    assert list(json.loads((tmp_path / "out" / RECORD).read_text())["written"]) == ["a.png"]


def test_label_images_as_prompts_count_by_what_they_hold(predictor, tmp_path, capsys):
    for name in ("in", "labels"):
        (tmp_path / name).mkdir()
    for name in "ab":
        Image.fromarray(GREY).save(tmp_path / "in" / f"{name}.png")
        Image.fromarray(EXPECTED).save(tmp_path / "labels" / f"{name}.png")
    words = ("-i", tmp_path / "in", "--boxes", tmp_path / "labels", "-o", tmp_path / "out", "--continue")
    assert done(words, capsys) == (2, 0)
    assert done(words, capsys) == (0, 2)
    Image.fromarray(EXPECTED[::-1].copy()).save(tmp_path / "labels" / "b.png")
    assert done(words, capsys) == (1, 1)


def test_separate_objects_and_dicom_are_continued(predictor, tmp_path, capsys):
    pytest.importorskip("pydicom")
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(GREY).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("somebody's")
    words = ("-i", tmp_path / "in", *BOXES, "-o", tmp_path / "out", "--separate", "--continue")
    assert done(words, capsys) == (2, 0)
    assert done(words, capsys) == (0, 2)
    (tmp_path / "out" / "b_2.png").unlink()
    assert done(words, capsys) == (1, 1)
    assert segment(*words[:-2]) == 1  # label maps, of which one is not its own
    assert "a.png exists, and no record says that this command wrote it" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").read_text() == "somebody's"
    for number, name in enumerate(("one", "two"), 1):
        write_slices(tmp_path / "scans" / name, VOLUME, series=f"1.2.3.{number}", spacing=(0.75, 0.5))
    words = ("-i", tmp_path / "scans", "--box", "1,1,0,6,4,3", "-o", tmp_path / "scans_out", "--continue")
    assert done(words, capsys) == (2, 0)
    assert done(words, capsys) == (0, 2)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--mode", "faithful"), "mode 'zoom' there and 'faithful' now"),
        (("--overlap", "score"), "overlap 'smaller' there and 'score' now"),
        (("--threads", "3"), "threads 0 there and 3 now"),
        (("--probabilities",), "probabilities False there and True now"),
        (("--palette",), "palette False there and True now"),
    ],
)
def test_a_folder_made_otherwise_is_not_continued(predictor, tmp_path, capsys, more, sentence):
    (tmp_path / "in").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "a.png")
    words = ("-i", tmp_path / "in", *BOXES, "-o", tmp_path / "out", "--continue")
    assert segment(*words) == 0
    assert segment(*words, *more) == 1
    assert sentence in capsys.readouterr().err
    assert segment(*words[:-1], *more) == 0


def test_another_model_and_changed_outputs_are_not_continued(predictor, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "a.png")
    words = ("-i", tmp_path / "in", *BOXES, "-o", tmp_path / "out", "--continue")
    assert segment(*words) == 0
    predictor.backend.digest = "another"
    assert segment(*words) == 1
    assert "the model fake there and another now" in capsys.readouterr().err
    predictor.backend.digest, predictor.backend.device = "fake", "cuda"
    assert segment(*words) == 1
    assert "device 'cpu' there and 'cuda' now" in capsys.readouterr().err
    del predictor.backend.device
    Image.fromarray(EXPECTED * 0).save(tmp_path / "out" / "a.png")  # corrected by hand
    assert segment(*words) == 1
    assert "a.png exists, and no record says that this command wrote it" in capsys.readouterr().err
    assert not read_labels(tmp_path / "out" / "a.png").pixels.any()
    assert segment("-i", tmp_path / "in" / "a.png", *BOXES, "-o", tmp_path / "o.png", "--continue") == 1
    assert "--continue needs a folder for the output; found the file" in capsys.readouterr().err


def with_result(content, **changes):
    case = content["cases"]["a.png"]
    return {**content, "cases": {"a.png": {**case, "result": {**case["result"], **changes}}}}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: {**content, "written": {"a.png": [1], "b": {}}, "cases": {}},
        lambda content: {**content, "cases": {"a.png": {**content["cases"]["a.png"], "separate": ["a\0b"]}}},
        lambda content: with_result(content, notices=5),
        lambda content: with_result(content, boxes=5),
        lambda content: with_result(content, scores=[]),
        lambda content: with_result(content, areas=["8", 2]),
        lambda content: {**content, "cases": {"a.png": {"inputs": 3, "outputs": {}}}},
        lambda content: {**content, "cases": {"a.png": {**content["cases"]["a.png"], "separate": 5}}},
        lambda content: {**content, "cases": {"a.png": {**content["cases"]["a.png"], "result": []}}},
        lambda content: {**content, "cases": {"a.png": {**content["cases"]["a.png"], "separate": ["../../x"]}}},
    ],
)
def test_damaged_records_hold_nothing(predictor, tmp_path, capsys, spoil):
    (tmp_path / "in").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "a.png")
    words = ("-i", tmp_path / "in", *BOXES, "-o", tmp_path / "out", "--continue", "--overwrite")
    assert done(words, capsys) == (1, 0)
    path = tmp_path / "out" / RECORD
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    assert done(words, capsys) == (1, 0)
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a.png").pixels, EXPECTED)


@pytest.mark.parametrize("which", ["o.png", "o_overlay.png", "o_probabilities.npz", "r.json"])
def test_old_outputs_are_replaced_only_where_that_is_asked_for(predictor, tmp_path, capsys, which):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / which).write_text("old")
    words = ("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.png", "--overlay", "--probabilities")
    words = (*words, "--json", tmp_path / "r.json")
    assert segment(*words) == 1
    assert f"{which} exists already; replace it with --overwrite, or choose another output." in capsys.readouterr().err
    assert names(tmp_path) == sorted(["a.png", which])
    assert (tmp_path / which).read_text() == "old"
    assert segment(*words, "--overwrite") == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "o.png").pixels, EXPECTED)


def test_options_reach_the_model_and_its_note_is_told(tmp_path, monkeypatch, capsys):
    given = {}

    def load(folder, **options):
        given.update(options, folder=folder)
        return FakePredictor(), "fold 0 of 0, 1 was used"

    monkeypatch.setattr(segment_files, "load_predictor", load)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    words = ("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.png", "--json", "-")
    options = ("--fold", "0,all", "--checkpoint", "checkpoint_best.pth", "--batch-size", "3", "--precision", "auto")
    assert segment(*words, *options, "--device", "cuda") == 0
    assert given == {
        "folder": "model",
        "folds": ["0", "all"],
        "checkpoint": "checkpoint_best.pth",
        "device": "cuda",
        "precision": "auto",
        "batch_size": 3,
        "threads": 0,
    }
    captured = capsys.readouterr()
    assert captured.err == "nnsam segment: fold 0 of 0, 1 was used\n"
    json.loads(captured.out)


def test_warnings_are_sentences(predictor, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    assert segment("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.png") == 0
    error = capsys.readouterr().err
    assert error.startswith(f"nnsam segment: {tmp_path / 'a.png'} carries an EXIF rotation")
    assert error.count("\n") == 1


def test_a_missing_model_is_named_and_leaves_no_file(tmp_path, capsys):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    words = ("-i", str(tmp_path / "a.png"), *BOXES, "-o", str(tmp_path / "o.png"), "--json", str(tmp_path / "r.json"))
    assert main(["segment", str(tmp_path / "absent"), *words]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-i", "a.png"],
        ["-i", "a.png", "-o", "o.png", "--box", "1,2,3"],
        ["-i", "a.png", "-o", "o.png", "--box", "1,2,3,x"],
        ["-i", "a.png", "-o", "o.png", "--box", "1,2,3,4", "--boxes", "b.json"],
        ["-i", "a.png", "-o", "o.png", "--mode", "fast"],
        ["-i", "a.png", "-o", "o.png", "--device", "tpu"],
        ["-i", "a.png", "-o", "o.png", "--batch-size", "0"],
    ],
)
def test_wrong_usage_is_code_2(words):
    with pytest.raises(SystemExit) as stop:
        segment(*words)
    assert stop.value.code == 2


def test_help_has_examples_and_states_the_convention(capsys):
    with pytest.raises(SystemExit) as stop:
        segment("--help")
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "nnsam segment MODEL -i" in output
    assert "last pixel belongs" in output


# ---- sizes, overlaps, palettes


@pytest.mark.parametrize("size", [(8, 6, 4), (8, 6), (8, 6, 1), (1, 6, 8)])
def test_sizes_are_those_of_simpleitk_where_the_pixel_size_is_known(predictor, tmp_path, capsys, size):
    spacing = (0.5, 0.75, 4.0)[: len(size)]
    save_volume(tmp_path / "v.nii.gz", np.zeros(size[::-1], np.int16), spacing, (0.0,) * len(size))
    box = [0, 0, 0, 3, 2, 1] if min(size) > 1 and len(size) == 3 else [0, 0, 3, 2]
    options = ("--box", ",".join(map(str, box)), "-o", tmp_path / "o.nii.gz", "--json", tmp_path / "r.json")
    assert segment("-i", tmp_path / "v.nii.gz", *options) == 0
    case = json.loads((tmp_path / "r.json").read_text())["cases"][0]
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.ReadImage(str(tmp_path / "o.nii.gz")))
    physical = shape.GetPhysicalSize(1)
    out = capsys.readouterr().out
    if len(box) == 6:
        assert case["volumes_ml"] == pytest.approx([physical / 1000])
        assert case["areas_mm2"] is None
        assert f"volume {physical / 1000:.4g} ml" in out
    else:
        thickness = {(8, 6, 1): 4.0, (1, 6, 8): 0.5}.get(size, 1.0)
        assert case["areas_mm2"] == pytest.approx([physical / thickness])
        assert case["volumes_ml"] is None
        assert f"area {physical / thickness:.4g} mm2" in out


@pytest.mark.parametrize(("name", "key"), [("a.png", None), ("a.tif", None), ("a.npz", "masks")])
def test_separate_objects_keep_their_whole_masks(predictor, tmp_path, capsys, name, key):
    boxes = ("--box", "1,1,6,4", "--box", "2,2,3,3")
    expected = [boxed((6, 8), np.s_[1:5, 1:7]), boxed((6, 8), np.s_[2:4, 2:4])]
    if key is None:
        Image.fromarray(GREY).save(tmp_path / name)
    else:
        np.savez(tmp_path / name, imgs=GREY)
    output = tmp_path / f"o{(tmp_path / name).suffix}"
    assert segment("-i", tmp_path / name, *boxes, "-o", output, "--separate", "--overlay") == 0
    out = capsys.readouterr().out
    assert (
        f"-> {tmp_path / 'o_1'}{output.suffix} ... o_2{output.suffix}: 2" if key is None else f"-> {output}: 2"
    ) in out
    if key is None:
        assert not output.exists()
        for number, mask in enumerate(expected, 1):
            found = read_labels(output.with_name(f"o_{number}{output.suffix}")).pixels
            np.testing.assert_array_equal(found, mask * number)
        return
    with np.load(output) as archive:
        np.testing.assert_array_equal(archive["masks"], expected)
        assert archive["labels"].tolist() == [1, 2]


def test_separate_objects_overwrite_no_input(predictor, tmp_path, capsys):
    for name in ("a.png", "a_1.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    before = (tmp_path / "a_1.png").read_bytes()
    assert segment("-i", tmp_path / "a_1.png", "--box", "1,1,6,4", "-o", tmp_path / "a.png", "--separate") == 1
    assert "a_1.png is an input and would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "a_1.png").read_bytes() == before


def test_palettes_are_seen_and_hold_the_same_labels(predictor, tmp_path, capsys):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert segment("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.png", "--palette") == 0
    picture = Image.open(tmp_path / "o.png")
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), EXPECTED)
    np.testing.assert_array_equal(read_labels(tmp_path / "o.png").pixels, EXPECTED)
    seen = np.asarray(picture.convert("RGB"))
    assert [tuple(seen[value == EXPECTED][0].tolist()) for value in (0, 1, 2)] == [(0, 0, 0), *COLORS[:2]]
    assert segment("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.tif", "--palette") == 1
    assert "o.tif cannot have a palette, which only PNGs have" in capsys.readouterr().err
    (tmp_path / "b.json").write_text(json.dumps({"boxes": [[1, 1, 2, 2]], "labels": [300]}))
    assert segment("-i", tmp_path / "a.png", "--boxes", tmp_path / "b.json", "-o", tmp_path / "p.png", "--palette") == 1
    assert "labels up to 255" in capsys.readouterr().err
    assert not (tmp_path / "p.png").exists()


def test_dicom_seg_of_a_series_and_of_a_folder(predictor, tmp_path, capsys):
    pydicom = pytest.importorskip("pydicom")
    for number, name in enumerate(("one", "two"), 1):
        write_slices(tmp_path / "scans" / name, VOLUME, series=f"1.2.3.{number}", spacing=(0.75, 0.5))
    nested = ("--box", "1,1,0,6,4,3", "--box", "2,2,1,3,3,2")
    assert segment("-i", tmp_path / "scans" / "one", *nested, "-o", tmp_path / "m.dcm", "--separate") == 0
    seg = pydicom.dcmread(tmp_path / "m.dcm")
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["object 1, label 1", "object 2, label 2"]
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert int(seg.pixel_array.sum()) == 4 * 4 * 6 + 2 * 2 * 2
    assert segment("-i", tmp_path / "scans", *nested, "-o", tmp_path / "out", "--dicom-seg") == 0
    assert names(tmp_path / "out") == ["one.dcm", "two.dcm"]
    found = read_labels(tmp_path / "out" / "one.dcm").pixels
    np.testing.assert_array_equal(found, boxed((4, 6, 8), np.s_[0:4, 1:5, 1:7], np.s_[1:3, 2:4, 2:4]))
    Image.fromarray(GREY).save(tmp_path / "a.png")
    capsys.readouterr()
    assert segment("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "out", "--dicom-seg") == 1
    assert "a.png is not DICOM" in capsys.readouterr().err
    source = sorted((tmp_path / "scans" / "one").iterdir())[0]
    before = source.read_bytes()
    assert segment("-i", tmp_path / "scans" / "one", *nested, "-o", source) == 1
    assert "would be overwritten" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_failures_of_boxes_name_their_image(predictor, folder, tmp_path, capsys):
    assert segment("-i", folder, "--box", "0,0,99,99", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()[1:]
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.endswith(".txt"))
    assert len(lines) == len(files) > 1
    for line, file in zip(lines, files, strict=True):
        assert line.strip().startswith(f"{file}: ")


@pytest.mark.parametrize(
    "error", [MemoryError("12 GB"), ZeroDivisionError("division by zero"), ValueError("of one case")]
)
def test_whatever_one_case_raises_is_its_failure_and_the_others_are_done(
    predictor, folder, tmp_path, monkeypatch, capsys, error
):
    real = predictor.set_image

    def fails_once(image, *args, **options):
        if not predictor.images:
            predictor.images.append(None)
            raise error
        return real(image, *args, **options)

    monkeypatch.setattr(predictor, "set_image", fails_once)
    assert segment("-i", folder, "--box", "0,0,3,3", "-o", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "a.png" in captured.err
    assert str(error) in captured.err
    assert "Traceback" not in captured.err
    assert len(names(tmp_path / "out")) >= 2


def test_json_to_a_device_leaves_the_device(predictor, tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert segment("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.png", "--json", "/dev/null") == 0
    assert Path("/dev/null").is_char_device()


def test_a_misspelled_name_in_the_boxes_stops_a_folder_before_anything_is_written(predictor, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("lesion_1.png", "lesion_2.png"):
        Image.fromarray(GREY).save(tmp_path / "in" / name)
    names = {"lesion_1.png": [[2, 1, 5, 2]], "lesoin_2.png": [[2, 1, 5, 2]]}
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(names))
    assert segment("-i", tmp_path / "in", "--boxes", boxes, "-o", tmp_path / "out") == 1
    assert "; did you mean lesion_2.png?\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert segment("-i", tmp_path / "in" / "lesion_1.png", "--boxes", boxes, "-o", tmp_path / "o.png") == 0


def test_masks_do_not_go_into_the_folder_of_the_images_and_reports_not_over_them(predictor, folder, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (tmp_path / "link").symlink_to(folder)
    for out in (folder, tmp_path / "link"):
        assert segment("-i", folder, *BOXES, "-o", out) == 1
    assert segment("-i", folder, *BOXES, "-o", tmp_path / "out", "--json", folder / "a.png", "--overwrite") == 1
    assert segment("-i", folder, *BOXES, "-o", tmp_path / "out", "--json", tmp_path / "out" / "a.png") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert not (tmp_path / "out").exists()


def save_pattern(folder, name, first):
    """A volume whose header names its slices by a pattern."""
    folder.mkdir(exist_ok=True)
    for number in range(4):
        (folder / f"s{number}.raw").write_bytes(np.full((6, 8), first + number, np.uint8).tobytes())
    header = "NDims = 3\nDimSize = 8 6 4\nElementType = MET_UCHAR\nElementSpacing = 1 1 1\n"
    (folder / name).write_text(header + "ElementDataFile = s%d.raw 0 3 1\n")


def test_pixels_in_files_of_their_own_are_inputs(predictor, tmp_path, capsys):
    save_pattern(tmp_path / "in", "v.mhd", 1)
    words = ("-i", tmp_path / "in" / "v.mhd", "--box", "2,1,0,5,2,2", "-o", tmp_path / "out", "--continue")
    (tmp_path / "out").mkdir()
    assert done(words, capsys) == (1, 0)
    assert done(words, capsys) == (0, 1)
    save_pattern(tmp_path / "in", "v.mhd", 5)
    assert done(words, capsys) == (1, 0)
    pixels = (tmp_path / "in" / "s2.raw").read_bytes()
    assert segment(*words[:-3], "-o", tmp_path / "m.mha", "--json", tmp_path / "in" / "s2.raw", "--overwrite") == 1
    assert "s2.raw is an input and would be overwritten" in capsys.readouterr().err
    assert (tmp_path / "in" / "s2.raw").read_bytes() == pixels


def test_a_report_is_no_mask_of_a_separate_object(predictor, tmp_path, capsys):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    words = ("-i", tmp_path / "a.png", *BOXES, "-o", tmp_path / "o.png", "--separate", "--json", tmp_path / "o_1.png")
    assert segment(*words) == 1
    assert "o_1.png and --json would both be written" in capsys.readouterr().err
    assert names(tmp_path) == ["a.png"]


def test_own_boxes_of_an_npz_are_not_those_of_json(predictor, folder, tmp_path, capsys):
    for name in ("a.png", "b.tif", "c.jpg", "e.nii.gz"):
        (folder / name).unlink()
    np.savez(folder / "f.npz", imgs=GREY, boxes=[[2, 1, 5, 2], [7, 4, 7, 5]])
    assert done(("-i", folder, "-o", tmp_path / "out"), capsys) == (2, 0)
    (tmp_path / "boxes.json").write_text(json.dumps({"d": [[2, 1, 5, 2]]}))
    assert segment("-i", folder, "--boxes", tmp_path / "boxes.json", "-o", tmp_path / "out", "--continue") == 1
    captured = capsys.readouterr()
    assert "has no boxes for f.npz" in captured.err
    assert "was done before" not in captured.out


def test_single_images_in_one_folder_stay_known(predictor, tmp_path, capsys):
    for name in "ab":
        Image.fromarray(GREY).save(tmp_path / f"{name}.png")
    (tmp_path / "out").mkdir()
    for name in "aba":
        assert segment("-i", tmp_path / f"{name}.png", *BOXES, "-o", tmp_path / "out") == 0
    (tmp_path / "out" / "b.png").write_bytes((tmp_path / "out" / "a.png").read_bytes() + b"by hand")
    assert segment("-i", tmp_path / "b.png", *BOXES, "-o", tmp_path / "out") == 1
    assert "b.png exists, and no record says that this command wrote it" in capsys.readouterr().err


def test_a_mask_drawn_by_hand_for_a_case_that_failed_is_kept(predictor, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(GREY).save(tmp_path / "in" / f"{name}.png")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a": [[2, 1, 5, 2]], "b": [[2, 1, 500, 2]]}))
    words = ("-i", tmp_path / "in", "--boxes", boxes, "-o", tmp_path / "out", "--continue")
    assert segment(*words) == 1
    Image.fromarray(EXPECTED * 7).save(tmp_path / "out" / "b.png")
    boxes.write_text(json.dumps({name: [[2, 1, 5, 2]] for name in "ab"}))
    assert segment(*words) == 1
    assert "b.png exists, and no record says that this command wrote it" in capsys.readouterr().err
    assert read_labels(tmp_path / "out" / "b.png").pixels.max() == 14


def test_masks_of_objects_that_are_no_longer_asked_for_go(predictor, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "a.png")
    words = ("-i", tmp_path / "in", "-o", tmp_path / "out", "--separate", "--continue")
    assert segment(*words, *BOXES) == 0
    assert names(tmp_path / "out") == ["a_1.png", "a_2.png"]
    assert segment(*words, *BOXES[:2]) == 0
    assert names(tmp_path / "out") == ["a_1.png"]


def test_the_output_of_a_folder_is_no_name_of_a_file(predictor, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(GREY).save(tmp_path / "in" / f"{name}.png")
    words = ("-i", tmp_path / "in", *BOXES, "-o", tmp_path / "masks" / "x.png")
    assert segment(*words) == 1
    assert "x.png, a name ending with .png: give a folder's name." in capsys.readouterr().err
    assert not (tmp_path / "masks").exists()
    (tmp_path / "masks" / "x.png").mkdir(parents=True)
    assert segment(*words) == 0


@pytest.mark.parametrize("which", ["a.png", "."])
def test_a_series_is_one_of_dicom_files(predictor, tmp_path, capsys, which):
    (tmp_path / "in").mkdir()
    Image.fromarray(GREY).save(tmp_path / "in" / "a.png")
    assert segment("-i", tmp_path / "in" / which, *BOXES, "-o", tmp_path / "out", "--series", "1.2") == 1
    assert "a series (1.2) is one of DICOM files; found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
