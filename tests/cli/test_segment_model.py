"""`nnsam segment` with a real, untrained network in a model folder."""

import json

import numpy as np
import pytest
from helpers.fakes import box_plans, write_model
from helpers.model_folders import edit
from PIL import Image

from nnsam.cli.main import main
from nnsam.inference.folders.segment import load_predictor, plan_tasks, segment_files
from nnsam.io.finding import InputFile
from nnsam.io.reading import read_labels
from nnsam.prompts.box_files import open_box_source

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, ("0", "1"), channels=3, trainer="nnSAMBoxTrainer", plans=box_plans(prompt="ellipse"))
    edit(folder / "fold_1" / "checkpoint_final.pth", trainer_name="nnSAMTrainer")
    return folder


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("mode", ["zoom", "faithful"])
def test_pictures_in_both_modes(model, picture, tmp_path, mode, capsys):
    words = ["-i", picture, "--box", "5,10,30,25", "--box", "40,0,49,39", "-o", tmp_path / "o.png", "--mode", mode]
    assert main(["segment", str(model), *map(str, words), "--json", "-"]) == 0
    captured = capsys.readouterr()
    (case,) = json.loads(captured.out)["cases"]
    found = read_labels(tmp_path / "o.png").pixels
    assert case["areas"] == [int((found == 1).sum()), int((found == 2).sum())]
    assert min(case["areas"]) > 0
    assert all(0.5 < score <= 1 for score in case["scores"])
    outside = np.ones(found.shape, bool)
    outside[10:26, 5:31] = outside[:, 40:] = False
    assert (found[outside] == 0).all()
    assert captured.err == "nnsam segment: fold 0 of 0, 1 was used, since none was chosen\n"


def test_volumes_of_three_columns_are_no_colour_pictures(model, tmp_path):
    np.savez(tmp_path / "a.npz", imgs=IMAGE[:6, :20], boxes=[[0, 2, 1, 2, 15, 4]])
    assert main(["segment", str(model), "-i", str(tmp_path / "a.npz"), "-o", str(tmp_path / "out"), "--overlay"]) == 0
    with np.load(tmp_path / "out" / "a.npz") as archive:
        assert archive["segs"].shape == (6, 20, 3)
        assert archive["segs"][1:5, 2:16].any()


def test_a_model_of_another_trainer_is_one_sentence(model, picture, tmp_path, capsys):
    words = ["-i", picture, "--box", "5,10,30,25", "-o", tmp_path / "o.png", "--fold", "1"]
    assert main(["segment", str(model), *map(str, words)]) == 1
    error = capsys.readouterr().err
    assert "is a model of nnSAMTrainer" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


def test_files_can_be_segmented_from_python(model, picture, tmp_path):
    predictor, note = load_predictor(model, folds=["0"])
    assert note == ""
    tasks = plan_tasks([InputFile(picture, "picture", ".png")], tmp_path / "out", into_folder=True)
    report = segment_files(predictor, tasks, open_box_source([[5, 10, 30, 25]]))
    assert [result.output for result in report.results] == [tmp_path / "out" / "a.png"]
    assert report.failures == {}
