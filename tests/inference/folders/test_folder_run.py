"""Folders of cases: what is written, what is continued, what an end by force leaves."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import write_automatic, write_box
from skimage.io import imread, imsave

from nnsam.errors import InputError
from nnsam.inference.automatic.predictor import Predictor
from nnsam.inference.bundle import Bundle
from nnsam.inference.folders.predict import CaseJob, CaseOutcome, FolderRun, RunOptions, predict_folder, predict_one
from nnsam.inference.folders.record import RECORD
from nnsam.inference.folders.segment import segment_files
from nnsam.inference.loading import load
from nnsam.io.finding import find_cases
from nnsam.io.nnunet_readers import reader
from nnsam.prompts.box_files import open_box_source

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder") / "bundle"
    write_automatic(folder)
    return folder


@pytest.fixture(scope="module")
def predictor(bundle):
    return Predictor.open(bundle, "f32", cache=False)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in NAMES:
        picture = generator.integers(0, 256, (40, 60), dtype=np.uint8)
        imsave(folder / f"{name}_0000.png", picture, check_contrast=False)
    return folder


@pytest.fixture
def cases(images):
    return find_cases(images, ".png", 1)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def run(predictor, cases, out, **options):
    return predict_folder(predictor, cases, out, mirror=False, **options)


ALL = sorted([*(f"{name}.png" for name in NAMES), "dataset.json", RECORD])


def test_files_of_a_run(predictor, cases, tmp_path):
    out = tmp_path / "out"
    seen, tiles = [], []
    report = run(predictor, cases, out, on_case=seen.append, on_tile=lambda *numbers: tiles.append(numbers))
    assert names(out) == ALL
    assert json.loads((out / "dataset.json").read_text()) == predictor.bundle.manifest["dataset_json"]
    assert [outcome.case for outcome in report.outcomes] == NAMES
    assert seen == report.outcomes
    assert not report.cancelled
    assert not report.failures
    for case, outcome in zip(cases, report.outcomes, strict=True):
        expected = predictor.predict_case(case.files, mirror=False).segmentation
        np.testing.assert_array_equal(imread(out / f"{case.name}.png"), expected[0])
        assert outcome.output == out / f"{case.name}.png"
        assert set(outcome.seconds) == {"read", "infer", "write"}
        mine = [(done, total) for name, done, total in tiles if name == case.name]
        assert mine == [(done, len(mine)) for done in range(1, len(mine) + 1)]
        assert mine


def test_probabilities(predictor, cases, tmp_path):
    run(predictor, cases[:1], tmp_path / "out", save_probabilities=True)
    with np.load(tmp_path / "out" / "a.npz") as content:
        assert content["probabilities"].shape == (3, 1, 40, 60)
        assert content["probabilities"].dtype == np.float32
        np.testing.assert_array_equal(content["probabilities"].argmax(axis=0)[0], imread(tmp_path / "out" / "a.png"))


@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_few_cases_are_in_memory(predictor, cases, tmp_path, monkeypatch, at_once):
    alive, most = set(), []
    prepare, write = predictor.prepare_case, predictor.write

    def prepared(case):
        alive.add(case.name)
        most.append(len(alive))
        return prepare(case)

    def written(prediction, path):
        write(prediction, path)
        alive.discard(path.stem)

    monkeypatch.setattr(predictor, "prepare_case", prepared)
    monkeypatch.setattr(predictor, "write", written)
    run(predictor, cases, tmp_path / "out", cases_in_memory=at_once)
    assert len(most) == len(NAMES)
    assert max(most) <= at_once


def test_one_bad_case_does_not_stop_the_others(predictor, images, tmp_path):
    (images / "b_0000.png").write_bytes(b"no picture")
    imsave(images / "d_0000.png", np.zeros((5, 5, 3), np.uint8), check_contrast=False)
    report = run(predictor, find_cases(images, ".png", 1), tmp_path / "out")
    assert [outcome.case for outcome in report.failures] == ["b", "d"]
    assert "b_0000.png" in report.failures[0].error
    assert "3 channels, the model reads 1" in report.failures[1].error
    assert not any(outcome.trace for outcome in report.failures)
    assert names(tmp_path / "out") == sorted({*ALL} - {"b.png", "d.png"})


def test_a_defect_is_told_with_its_place_and_does_not_stop_the_others(predictor, cases, tmp_path, monkeypatch):
    restore = predictor.restore

    def broken(logits, case):
        if threading.current_thread().name == "nnsam-write" and not (tmp_path / "out" / "a.png").exists():
            return restore(logits, case)
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(predictor, "restore", broken)
    report = run(predictor, cases, tmp_path / "out")
    assert len(report.failures) == 4
    assert report.failures[0].error == "b: ZeroDivisionError: division by zero"
    assert "in broken" in report.failures[0].trace


def test_memory_and_disk_are_sentences(predictor, cases, tmp_path, monkeypatch):
    errors = iter([MemoryError("Unable to allocate 9 TiB"), OSError(28, "No space left on device")])
    monkeypatch.setattr(predictor, "prepare_case", lambda case: (_ for _ in ()).throw(next(errors)))
    report = run(predictor, cases[:2], tmp_path / "out")
    assert [outcome.error for outcome in report.outcomes] == [
        "a needs more memory than there is (Unable to allocate 9 TiB)",
        "b: [Errno 28] No space left on device",
    ]
    assert not any(outcome.trace for outcome in report.outcomes)


def test_continue_does_only_what_is_missing(predictor, cases, tmp_path):
    out = tmp_path / "out"
    run(predictor, cases[:3], out)
    before = stamps(out)
    report = run(predictor, cases, out, resume=True)
    assert [outcome.skipped for outcome in report.outcomes] == [True] * 3 + [False] * 2
    assert {name: stamps(out)[name] for name in ("a.png", "b.png", "c.png")} == {
        name: before[name] for name in ("a.png", "b.png", "c.png")
    }
    assert names(out) == ALL
    assert all(outcome.skipped for outcome in run(predictor, cases, out, resume=True).outcomes)


def test_continue_keeps_the_record_of_cases_that_are_not_given(predictor, cases, tmp_path):
    out = tmp_path / "out"
    run(predictor, cases[:3], out)
    run(predictor, cases[3:], out, resume=True)
    assert all(outcome.skipped for outcome in run(predictor, cases, out, resume=True).outcomes)


def test_without_continue_everything_is_replaced(predictor, cases, tmp_path):
    out = tmp_path / "out"
    run(predictor, cases, out)
    (out / "a.png").write_bytes(b"edited")
    with pytest.raises(InputError, match=r"a\.png exists, and no record says that this command wrote it"):
        run(predictor, cases, out)
    assert (out / "a.png").read_bytes() == b"edited"
    report = run(predictor, cases, out, overwrite=True)
    assert not any(outcome.skipped for outcome in report.outcomes)
    assert imread(out / "a.png").shape == (40, 60)
    assert not any(outcome.skipped for outcome in run(predictor, cases, out).outcomes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
)
def test_continue_predicts_damaged_edited_and_missing_files_again(predictor, cases, tmp_path, spoil):
    out = tmp_path / "out"
    run(predictor, cases, out)
    good = (out / "c.png").read_bytes()
    spoil(out / "c.png")
    if (out / "c.png").exists():  # perhaps corrected by hand
        with pytest.raises(InputError, match=r"c\.png exists, and no record says that this command wrote it"):
            run(predictor, cases, out, resume=True)
    report = run(predictor, cases, out, resume=True, overwrite=True)
    assert [outcome.case for outcome in report.outcomes if not outcome.skipped] == ["c"]
    assert (out / "c.png").read_bytes() == good


def test_continue_trusts_no_file_that_it_did_not_write(predictor, cases, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    imsave(out / "a.png", np.zeros((40, 60), np.uint8), check_contrast=False)
    report = run(predictor, cases, out, resume=True, overwrite=True)
    assert not any(outcome.skipped for outcome in report.outcomes)
    assert imread(out / "a.png").any()


def test_continue_after_an_image_changed(predictor, cases, images, tmp_path):
    out = tmp_path / "out"
    run(predictor, cases, out)
    imsave(images / "d_0000.png", np.full((40, 60), 9, np.uint8), check_contrast=False)
    report = run(predictor, cases, out, resume=True)
    assert [outcome.case for outcome in report.outcomes if not outcome.skipped] == ["d"]


def test_continue_with_another_model_or_other_options_is_refused(predictor, cases, tmp_path):
    out = tmp_path / "out"
    run(predictor, cases, out)
    before = stamps(out)
    with pytest.raises(InputError, match="mirror False there and True now"):
        predict_folder(predictor, cases, out, resume=True)
    with pytest.raises(InputError, match=r"step 0\.5 there and 0\.7 now"):
        run(predictor, cases, out, resume=True, step=0.7)
    with pytest.raises(InputError, match="save_probabilities False there and True now"):
        run(predictor, cases, out, resume=True, save_probabilities=True)
    write_automatic(tmp_path / "other", outputs=4, sections={"dataset_json": predictor.bundle.manifest["dataset_json"]})
    with pytest.raises(InputError, match=r"the model .* there and .* now"):
        run(Predictor.open(tmp_path / "other", "f32", cache=False), cases, out, resume=True)
    assert stamps(out) == before


def test_probabilities_count_for_continuing(predictor, cases, tmp_path):
    out = tmp_path / "out"
    run(predictor, cases, out, save_probabilities=True)
    (out / "b.npz").unlink()
    report = run(predictor, cases, out, save_probabilities=True, resume=True)
    assert [outcome.case for outcome in report.outcomes if not outcome.skipped] == ["b"]
    assert (out / "b.npz").exists()


def test_cancelling_keeps_what_is_finished(predictor, cases, tmp_path):
    out, done = tmp_path / "out", []
    report = run(predictor, cases, out, on_case=done.append, cases_in_memory=1, cancelled=lambda: len(done) >= 2)
    assert report.cancelled
    assert names(out) == sorted(["a.png", "b.png", "dataset.json", RECORD])
    report = run(predictor, cases, out, resume=True)
    assert [outcome.skipped for outcome in report.outcomes] == [True, True, False, False, False]


def test_cancelling_within_a_case(predictor, cases, tmp_path):
    tiles = []
    report = run(
        predictor,
        cases,
        tmp_path / "out",
        on_tile=lambda *numbers: tiles.append(numbers),
        cancelled=lambda: len(tiles) >= 1,
    )
    assert report.cancelled
    assert len(tiles) == 1
    assert names(tmp_path / "out") == sorted(["dataset.json", RECORD])


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_thread(predictor, cases, tmp_path, monkeypatch):
    infer, out = predictor.infer, tmp_path / "out"

    def interrupted(case, **options):
        if (out / "b.png").exists():
            raise KeyboardInterrupt
        return infer(case, **options)

    monkeypatch.setattr(predictor, "infer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(predictor, cases, out)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("nnsam-")]
    monkeypatch.undo()
    done = {path.stem for path in out.glob("*.png")}
    assert {"a", "b"} <= done
    assert not list(out.glob(".*"))
    report = run(predictor, cases, out, resume=True)
    assert {outcome.case for outcome in report.outcomes if outcome.skipped} == done


def test_a_kill_between_label_map_and_record(predictor, cases, tmp_path):
    """The label map is there and the record does not know it."""
    out = tmp_path / "out"
    options = RunOptions("f32", ("0",), mirror=False)
    folder_run = FolderRun(predictor.bundle, cases, out, options)
    CaseJob(predictor, cases[0], folder_run.output(cases[0]), options, note=folder_run.note).run()
    report = run(predictor, cases, out, resume=True)
    assert not any(outcome.skipped for outcome in report.outcomes)
    assert names(out) == ALL
    assert not list(out.glob(".*"))


def test_a_mask_made_by_hand_for_a_case_that_failed_is_kept(predictor, cases, tmp_path):
    out = tmp_path / "out"
    image = cases[1].files[0]
    content = image.read_bytes()
    image.write_bytes(content[:40])
    assert [outcome.case for outcome in run(predictor, cases, out).failures] == [cases[1].name]
    by_hand = out / f"{cases[1].name}.png"
    by_hand.write_bytes((out / f"{cases[0].name}.png").read_bytes())
    image.write_bytes(content)
    with pytest.raises(InputError, match="no record says that this command wrote it"):
        run(predictor, cases, out, resume=True)
    assert by_hand.read_bytes() == (out / f"{cases[0].name}.png").read_bytes()


def test_a_mask_corrected_by_hand_is_kept_after_another_run_was_killed(predictor, cases, tmp_path):
    out, options = tmp_path / "out", RunOptions("f32", ("0",), mirror=False)
    run(predictor, cases, out)
    FolderRun(predictor.bundle, cases, out, options)  # and is killed
    corrected = out / f"{cases[2].name}.png"
    corrected.write_bytes((out / f"{cases[0].name}.png").read_bytes() + b"by hand")
    with pytest.raises(InputError, match="no record says that this command wrote it"):
        run(predictor, cases, out, resume=True)
    corrected.unlink()
    run(predictor, cases, out)  # the others are its own
    assert names(out) == ALL


KILLED = """
import sys, time
from nnsam.io.finding import find_cases
from nnsam.inference.folders.predict import predict_folder
from nnsam.inference.automatic.predictor import Predictor

predictor = Predictor.open({bundle!r}, "f32", cache=False)
infer = predictor.infer
predictor.infer = lambda *args, **options: (time.sleep(0.3), infer(*args, **options))[1]
predict_folder(predictor, find_cases({images!r}, ".png", 1), {out!r}, mirror=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_can_be_continued(bundle, predictor, cases, images, tmp_path, number):
    out = tmp_path / "out"
    code = KILLED.format(bundle=str(bundle), images=str(images), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 60
    while not (out / "b.png").exists():
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.wait(30)
    assert process.returncode != 0
    finished = {path.name: path.read_bytes() for path in out.glob("[a-e].png")}
    assert len(finished) < len(NAMES)
    report = run(predictor, cases, out, resume=True)
    assert not report.failures
    assert report.outcomes[0].skipped
    assert {name: (out / name).read_bytes() for name in finished} == finished
    assert [path.name for path in sorted(out.glob("[a-e].png"))] == [f"{name}.png" for name in NAMES]


def test_images_are_never_overwritten(predictor, tmp_path):
    for name in ("x.png", "y.png"):
        imsave(tmp_path / name, np.zeros((9, 9), np.uint8), check_contrast=False)
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(InputError, match=r"x\.png is an image .* would be overwritten"):
        run(predictor, find_cases(tmp_path, ".png", 1), tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(InputError, match="would be overwritten"):
        run(predictor, find_cases(tmp_path, ".png", 1), tmp_path / "link")
    assert (tmp_path / "x.png").read_bytes() == before
    assert names(tmp_path) == ["link", "x.png", "y.png"]


def test_a_data_sets_own_json_is_not_overwritten(predictor, cases, tmp_path):
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0}}')
    with pytest.raises(InputError, match=r"dataset\.json belongs to something else"):
        run(predictor, cases, tmp_path)
    assert names(tmp_path) == ["dataset.json", "images"]


def test_a_folder_of_another_model_is_taken_over(predictor, cases, tmp_path):
    out = tmp_path / "out"
    write_automatic(tmp_path / "other", outputs=4)
    run(Predictor.open(tmp_path / "other", "f32", cache=False), cases, out)
    run(predictor, cases, out)
    assert json.loads((out / "dataset.json").read_text()) == predictor.bundle.manifest["dataset_json"]


def test_a_file_instead_of_a_folder(predictor, cases, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run(predictor, cases, tmp_path / "out")


def test_no_room_for_a_case_is_refused_instead_of_waited_for(predictor, cases, tmp_path):
    with pytest.raises(InputError, match="cases in memory is 0"):
        predict_folder(predictor, cases, tmp_path / "out", cases_in_memory=0)
    assert not (tmp_path / "out").exists()


def test_each_kind_of_model_has_its_own_function(predictor, cases, tmp_path):
    write_box(tmp_path / "box_bundle")
    with pytest.raises(InputError, match="box model"):
        predict_folder(load(tmp_path / "box_bundle"), cases, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="takes no boxes"):
        segment_files(predictor, [], open_box_source([[0, 0, 5, 5]]))


def test_options_are_checked():
    for step in (0, -1, 1.01, float("nan")):
        with pytest.raises(InputError, match="step"):
            RunOptions("f32", ("0",), step=step)


def test_one_case_alone(predictor, cases, tmp_path):
    options = RunOptions("f32", ("0",), save_probabilities=True)
    outcome = predict_one(predictor, cases[0], tmp_path / "new" / "mask.png", options)
    assert isinstance(outcome, CaseOutcome)
    assert names(tmp_path / "new") == ["mask.npz", "mask.png"]
    assert set(outcome.outputs) == {"mask.png", "mask.npz"}
    Path(cases[0].files[0]).write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        predict_one(predictor, cases[0], tmp_path / "mask.png", options)
    assert not (tmp_path / "mask.png").exists()


def test_a_failing_disk_leaves_no_half_written_file(predictor, cases, tmp_path, monkeypatch):
    out = tmp_path / "out"
    writer = reader("NaturalImage2DIO")

    def full(self, draft, path, labels, properties):
        draft.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(writer), "_write", full)
    report = run(predictor, cases, out)
    assert len(report.failures) == len(NAMES)
    assert all("No space left" in outcome.error for outcome in report.failures)
    assert names(out) == ["dataset.json", RECORD]


def test_the_folder_run_does_not_need_a_predictor(bundle, cases, tmp_path):
    folder_run = FolderRun(Bundle.open(bundle), cases, tmp_path / "out", RunOptions("f32", ("0",)))
    assert folder_run.pending == cases
    folder_run.add(CaseOutcome("a", folder_run.output(cases[0]), error="did not work"))
    folder_run.close()
    assert json.loads((tmp_path / "out" / RECORD).read_text())["cases"] == {}
    assert [outcome.case for outcome in folder_run.report.failures] == ["a"]
