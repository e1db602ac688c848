import json

import numpy as np
import pytest
from helpers import bundles
from helpers.fakes import write_model

from nnsam.bench.box import load as box_load
from nnsam.bench.box import speed as box
from nnsam.bench.box.load import measure_load, random_boxes
from nnsam.bench.box.speed import bench_box, count_passes, measure_sizes
from nnsam.bench.measuring import peak_memory_mb
from nnsam.bench.models import CountingBackend, load_predictor
from nnsam.cli.main import main
from nnsam.errors import InputError, SetupError
from nnsam.inference import BoxModelSpec, BoxPredictor, OpenVINOBackend, TorchBackend
from nnsam.prompts.convention import check_boxes

SPEC = BoxModelSpec((32, 40), 1, "binary")


@pytest.fixture
def predictor():
    return BoxPredictor(CountingBackend(SPEC))


@pytest.fixture
def data(tmp_path):
    """Two pictures with 1 and 2 objects, and a volume whose object has 3 slices."""
    labels = np.zeros((3, 5, 50, 60), np.uint16)
    labels[:, :, 5:20, 5:30] = 1
    labels[1, :, 30:40, 20:50] = 2
    labels[2, [0, 4]] = 0
    folder = tmp_path / "sets" / "some" / "test"
    folder.mkdir(parents=True)
    for name, gts in (("a", labels[0, 0]), ("b", labels[1, 0]), ("c", labels[2])):
        np.savez(folder / f"{name}.npz", imgs=(gts * 90).astype(np.uint8), gts=gts, inst=gts)
    return tmp_path / "sets"


def test_every_size_is_measured(predictor):
    rows = measure_sizes(predictor, [(40, 50), (200, 300)], rounds=2)
    assert [row["size"] for row in rows] == [[40, 50], [200, 300]]
    for row in rows:
        assert row["zoom_passes"] == 1
        assert row["faithful_passes"] == row["faithful_rule"]
        assert 0 < row["zoom_seconds_min"] <= row["zoom_seconds"]
    assert rows[0]["faithful_passes"] < rows[1]["faithful_passes"]


def test_passes_are_counted_over_all_boxes(predictor, data):
    """One for each box of a picture, one for each slice of a volume's box."""
    assert count_passes(predictor, data) == pytest.approx((1 + 2 + 3) / 4)
    assert predictor.backend.passes == 0


def test_boxes_are_inside_and_repeat_themselves():
    boxes = random_boxes(241, (192, 256))
    checked = check_boxes(boxes, (192, 256))
    assert len(checked) == 241
    np.testing.assert_array_equal(boxes, random_boxes(241, (192, 256)))
    assert len(np.unique(boxes, axis=0)) == 241


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory_mb()
    if before is None:
        pytest.skip("this system does not tell")
    held = np.ones(40_000_000)
    assert peak_memory_mb() >= max(before, 300)
    assert held.sum() == 40_000_000


def test_time_per_box_is_compared_with_that_of_few(monkeypatch, predictor):
    ticks = iter([0, 2, 2, 10, 10, 14])  # few: 2 s, all: 8 s, few: 4 s
    monkeypatch.setattr(box_load, "load_predictor", lambda model, device: predictor)
    monkeypatch.setattr(box_load.time, "perf_counter", lambda: next(ticks))
    result = box_load._measure({"model": None, "boxes": 8, "few": 2, "size": [50, 60], "device": "cpu"})
    assert (result["few_seconds"], result["seconds"]) == (3, 8)
    assert result["linearity"] == pytest.approx(8 / 3 / 4)


def test_a_failing_process_is_one_sentence(tmp_path):
    with pytest.raises(SetupError, match=r"segments 2 boxes failed: .*absent"):
        measure_load(str(tmp_path / "absent"), boxes=2, few=1)


@pytest.fixture
def quick(monkeypatch, predictor):
    """The benchmark without its network and without its process."""
    load = {
        "boxes": 241,
        "few": 60,
        "size": [9, 9],
        "seconds": 2.0,
        "few_seconds": 1,
        "linearity": 1.0,
        "peak_mb": None,
    }
    monkeypatch.setattr(box, "load_predictor", lambda model, device: predictor)
    monkeypatch.setattr(box, "measure_load", lambda *args, **kwargs: load)
    machine = {"processor": "some processor", "cores": 2, "cpu_features": ["avx2"]}
    monkeypatch.setattr(box, "describe_machine", lambda: machine)  # starts OpenVINO, which takes seconds
    monkeypatch.setattr(box, "QUICK_SIZES", ((40, 50), (60, 90)))


def test_command_prints_one_json_object(quick, capsys):
    assert main(["bench", "box", "--quick", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    times = [row["zoom_seconds"] for row in result["rows"]]
    assert result["zoom_time_spread"] == pytest.approx(max(times) / min(times) - 1)
    assert result["passes_per_box"] == 1
    assert result["accuracy"] is None
    assert result["boxes_241"]["linearity"] == 1
    assert {"machine", "model", "device"} <= set(result)


def test_command_prints_tables(quick, data, capsys):
    words = ["bench", "box", "--quick", "--model", "some/where/model_a", "--data", str(data), "--max-cases", "2"]
    assert main(words) == 0
    output = capsys.readouterr().out
    for expected in ("40 x 50", "60 x 90", "model_a", "zoom", "faithful", "ellipse", "mean over sets", "241 boxes"):
        assert expected in output
    assert "some/where" not in output


def test_data_without_a_model_scores_the_baselines(quick, data):
    result = bench_box(None, data, quick=True)
    assert result["accuracy"]["modes"] == ["ellipse"]
    assert result["passes_per_box"] == pytest.approx(6 / 4)


def test_accuracy_comes_with_the_passes_that_it_took(quick, data):
    result = bench_box("model", data, quick=True)
    assert result["passes_per_box"] == result["accuracy"]["passes_per_box"]["zoom"] == pytest.approx(6 / 4)


def test_wrong_arguments_are_named_before_anything_is_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(box, "measure_load", pytest.fail)
    monkeypatch.setattr(box, "measure_sizes", pytest.fail)
    for words, expected in (
        (["--rounds", "0"], "--rounds is 0"),
        (["--data", str(tmp_path / "absent")], "holds no test sets"),
        (["--model", str(tmp_path / "absent")], "absent"),
    ):
        assert main(["bench", "box", *words]) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert "Traceback" not in error
    with pytest.raises(InputError):
        bench_box(str(tmp_path / "absent"))


def test_model_folders_and_bundles_are_taken(tmp_path, monkeypatch, capsys):
    bundles.write_box(tmp_path / "bundle")
    write_model(tmp_path / "folder")
    monkeypatch.setattr(box, "QUICK_SIZES", ((40, 50),))
    monkeypatch.setattr(box, "QUICK_BOXES", (2, 1))
    for name, backend in (("bundle", OpenVINOBackend), ("folder", TorchBackend)):
        predictor = load_predictor(str(tmp_path / name))
        assert type(predictor.backend) is backend
        assert predictor.precision == "f32"
    words = ["bench", "box", "--quick", "--rounds", "1", "--model", str(tmp_path / "bundle")]
    assert main([*words, "--device", "auto", "--json"]) == 0  # on the CPU, whatever GPU there is
    result = json.loads(capsys.readouterr().out)
    assert (result["model"], result["precision"]) == ("bundle", "f32")
    assert main([*words, "--device", "cuda"]) == 1
    assert "is a bundle, which runs on the CPU" in capsys.readouterr().err


def test_bundles_of_automatic_models_are_refused(tmp_path):
    bundles.write_automatic(tmp_path / "bundle")
    with pytest.raises(InputError, match="automatic"):
        load_predictor(str(tmp_path / "bundle"))
