import json
import sys

import numpy as np
import pytest
from helpers.fakes import probabilities_of

from nnsam.bench.cpu import rows as cpu_rows
from nnsam.bench.cpu import run as cpu
from nnsam.bench.cpu.rows import TableRow, measure_rows
from nnsam.bench.cpu.run import PYTORCH, bench_cpu, compare_box_network, compare_encoder, compare_zoom
from nnsam.bench.measuring import ColdRun
from nnsam.bench.models import CountingBackend
from nnsam.errors import InputError
from nnsam.inference import BoxModelSpec, BoxPredictor

ROWS = (TableRow("A", (60, 80), 2), TableRow("B", (6, 60, 50), 3))
MACHINE = {
    "processor": "some processor",
    "cores": 2,
    "cpu_features": ["avx2"],
    "python": "3",
    "versions": {"nnsam": "1"},
}


@pytest.fixture
def opened(monkeypatch):
    """Predictors without a network; returns the precisions that were asked for."""
    asked = []

    def open_predictor(folder, precision, threads=0):
        asked.append(precision)
        return BoxPredictor(CountingBackend(BoxModelSpec((32, 40), 3)))

    monkeypatch.setattr(cpu_rows, "open_predictor", open_predictor)
    return asked


@pytest.fixture
def processes(monkeypatch):
    """No fresh processes; returns the commands and environments."""
    runs = []

    def run_cold(command, output, environment):
        cached = any(environment == before for _, before in runs)
        runs.append((command, environment))
        return ColdRun(1.0 if cached else 5.0, 6.0, 100.0 if cached else 300.0)

    monkeypatch.setattr(cpu_rows, "run_cold", run_cold)
    return runs


def test_rows_are_measured_in_every_precision(tmp_path, opened, processes):
    found = measure_rows(tmp_path, ROWS, ["f32", "bf16"], 2, slices_limit=4)
    assert opened == ["f32", "bf16"]
    assert [row["name"] for row in found] == ["A", "B"]
    assert [row["shape"] for row in found] == [[60, 80, 3], [6, 60, 50]]
    assert [row["boxes"] for row in found] == [2, 3]
    assert [row["slices"] for row in found] == [None, 4]
    for row in found:
        assert set(row["precisions"]) == {"f32", "bf16"}
        assert row["precision"] in ("f32", "bf16")
        for key in ("warm_s", "cold_s", "peak_mb"):
            assert row[key] == row["precisions"][row["precision"]][key] > 0
        assert (row["cold_s"], row["cold_uncached_s"]) == (1, 5)
        assert (row["peak_mb"], row["peak_uncached_mb"]) == (100, 300)
    volume = found[1]["precisions"]["f32"]
    assert volume["passes"] == 4 * 3
    assert volume["s_per_slice_and_object"] == pytest.approx(volume["warm_s"] / 12)
    assert volume["whole_volume_s"] == pytest.approx(volume["warm_s"] * 6 / 4)
    assert found[0]["precisions"]["f32"]["passes"] == 2


def test_fresh_processes_get_the_files_and_a_cache_of_their_own(tmp_path, opened, monkeypatch):
    seen = []

    def run_cold(command, output, environment):
        image, boxes = command[command.index("-i") + 1], command[command.index("--boxes") + 1]
        with open(boxes) as file:
            count = len(json.load(file))
        if image.endswith(".npz"):
            with np.load(image, allow_pickle=False) as arrays:
                assert arrays["imgs"].shape == (6, 60, 50)
                np.testing.assert_array_equal(arrays["spacing"], [1, 1, 2])
        seen.append((image.rsplit(".")[-1], count, environment["NNSAM_HOME"]))
        assert "--threads" in command
        assert command[command.index("--precision") + 1] == "f32"
        return ColdRun(1.0, 1.0, None)

    monkeypatch.setattr(cpu_rows, "run_cold", run_cold)
    found = measure_rows(tmp_path, ROWS, ["f32"], 1, threads=1)
    assert [(ending, count) for ending, count, _ in seen] == [("png", 2)] * 2 + [("npz", 3)] * 2
    assert seen[0][2] == seen[1][2] != seen[2][2]
    assert found[0]["peak_mb"] is None


def test_the_headline_precision_is_the_quickest(tmp_path, monkeypatch, processes):
    class Slow(CountingBackend):
        def stream(self, fold, batches):
            for logits in super().stream(fold, batches):
                clock[0] += len(logits) * self.seconds
                yield logits

    clock = [0.0]

    def open_predictor(folder, precision, threads=0):
        backend = Slow(BoxModelSpec((32, 40), 3))
        backend.seconds = {"f32": 3, "bf16": 1, "int8": 2}[precision]
        return BoxPredictor(backend)

    monkeypatch.setattr(cpu_rows, "open_predictor", open_predictor)
    monkeypatch.setattr("nnsam.bench.measuring.time.perf_counter", lambda: clock[0])
    found = measure_rows(tmp_path, ROWS, ["f32", "bf16", "int8"], 1, cold=False)
    assert {row["precision"] for row in found} == {"bf16"}
    assert found[0]["warm_s"] == 2
    assert found[1]["warm_s"] == 18
    assert "cold_s" not in found[0]


def test_content_changes_from_round_to_round(tmp_path, monkeypatch):
    images = []

    class Predictor(BoxPredictor):
        def set_image(self, image, spacing=None, *, dimensions=None):
            images.append(image.tobytes())
            return super().set_image(image, spacing, dimensions=dimensions)

    backend = CountingBackend(BoxModelSpec((32, 40), 3))
    monkeypatch.setattr(cpu_rows, "open_predictor", lambda *args: Predictor(backend))
    measure_rows(tmp_path, ROWS[:1], ["f32"], 3, cold=False)
    assert len(images) == len(set(images)) == 4


def test_pytorch_comes_after_the_bundle(tmp_path, opened, processes):
    from nnsam.bench.models import random_model_folder

    folder = random_model_folder(tmp_path / "model", model="small")
    [row] = measure_rows(tmp_path / "bundle", ROWS[:1], ["f32"], 1, pytorch=folder)
    assert list(row["precisions"]) == ["f32", "pytorch"]
    assert row["precision"] == "f32"
    assert row["precisions"]["pytorch"]["passes"] == 2
    assert row["precisions"]["pytorch"]["cold_s"] == 1
    assert row["precisions"]["pytorch"]["cold_uncached_s"] is None
    command = processes[-1][0]
    assert str(folder) in command
    assert command[command.index("--precision") + 1] == "f32"


def test_the_random_model_folder_is_the_random_network(tmp_path):
    import torch

    from nnsam.bench.models import random_model_folder, random_network

    backend = BoxPredictor.from_folder(random_model_folder(tmp_path / "model", model="small")).backend
    assert backend.manifest["input"]["channels"] == 3
    assert backend.manifest["box"]["per_slice_normalization"]
    patches = np.random.default_rng(0).standard_normal((1, 4, 128, 160), np.float32)
    with torch.no_grad():
        expected = random_network("small")(torch.from_numpy(patches)).softmax(1)[:, 1]
    found = probabilities_of(backend, patches)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() > 0.5  # every object is found everywhere


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The small network as a bundle, f32 only."""
    from nnsam.bench.models import random_bundle

    return random_bundle(tmp_path_factory.mktemp("tiny") / "bundle", model="small")


def test_the_random_bundle_is_whole_and_finds_objects_everywhere(tiny):
    from nnsam.bench.models import random_network
    from nnsam.inference.bundle import Bundle

    assert Bundle.open(tiny.folder, "box").manifest["box"]["prompt"] == "binary"
    run = cpu.compile_ir(tiny.folder / "unet_fold0.xml", "f32", 1)
    patches = np.random.default_rng(0).standard_normal((3, 4, 128, 160), np.float32)
    logits = run(patches)
    assert logits.shape == (3, 2, 128, 160)
    assert (logits[:, 1] > logits[:, 0]).all()
    import torch

    with torch.no_grad():
        expected = random_network("small")(torch.from_numpy(patches)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_the_box_network_is_compared_with_pytorch(tiny, monkeypatch):
    monkeypatch.setattr(cpu, "random_network", lambda: lambda tensor: tensor.sum())
    found = compare_box_network(tiny, ["f32"], 2, 1)
    assert [entry["name"] for entry in found] == [cpu.BOX_NETWORK]
    assert [row["name"] for row in found[0]["candidates"]] == ["OpenVINO f32", PYTORCH]
    assert compare_box_network(tiny, ["f32"], 1, 1, with_pytorch=False) == []


def test_networks_of_any_prompt_are_compared(tmp_path):
    from helpers.fakes import box_plans
    from helpers.model_folders import write_model_folder

    from nnsam.exporting.comparison import Workbench
    from nnsam.exporting.export_model import export_model

    folder = write_model_folder(
        tmp_path / "model", trainer="nnSAMBoxTrainer", plans=box_plans(prompt="ellipse"), channels=3
    )
    bundle = export_model(folder, tmp_path / "bundle", calibration=4, workbench=Workbench(seconds=0))
    assert bundle.manifest["box"]["prompt"] == "ellipse"
    # Nothing to compare with, but the network took its five channels.
    assert compare_box_network(bundle, ["f32"], 1, 1, with_pytorch=False) == []


@pytest.mark.slow
def test_the_encoder_is_compared_with_pytorch():
    found = compare_encoder([64], ["f32", "int8"], 1, 1)
    assert [entry["name"] for entry in found] == ["MobileSAM encoder, 64 x 64"]
    assert [row["name"] for row in found[0]["candidates"]] == [PYTORCH, "OpenVINO f32"]


def test_a_zoomed_box_is_compared_with_pytorch(tiny, monkeypatch):
    import torch

    opened = []

    def open_predictor(folder, precision, threads=0):
        opened.append(precision)
        return BoxPredictor(CountingBackend(BoxModelSpec((128, 160), 3)))

    monkeypatch.setattr(cpu, "random_bundle", lambda folder, hybrid: tiny)
    monkeypatch.setattr(cpu, "random_network", lambda hybrid: torch.nn.Conv2d(4, 2, 1))
    monkeypatch.setattr(cpu, "open_predictor", open_predictor)
    found = compare_zoom(True, ["f32", "bf16", "int8"], 2, 1)
    assert found["name"] == cpu.HYBRID_ZOOM
    assert opened == ["f32", "bf16"]
    assert [row["name"] for row in found["candidates"]] == ["OpenVINO f32", "OpenVINO bf16", PYTORCH]


@pytest.mark.slow
def test_noise_quantises_a_network(tmp_path):
    pytest.importorskip("nncf")
    from nnsam.bench.models import random_bundle

    bundle = random_bundle(tmp_path / "bundle", int8=True, model="small")
    files = bundle.manifest["networks"]["folds"][0]
    text = (bundle.folder / files["int8"]).read_text()
    assert "FakeQuantize" in text
    assert "FakeQuantize" not in (bundle.folder / files["unet"]).read_text()
    assert len(compare_box_network(bundle, ["f32", "int8"], 1, 1, with_pytorch=False)) == 1


@pytest.mark.slow
def test_the_hybrid_bundle_has_an_encoder(tmp_path):
    from nnsam.bench.models import random_bundle
    from nnsam.inference.bundle import Bundle

    random_bundle(tmp_path / "bundle", hybrid=True, model="small", sam_size=64)
    bundle = Bundle.open(tmp_path / "bundle", "box")
    embedding = cpu.compile_ir(bundle.path("image_encoder.xml"), "f32", 1)(np.zeros((2, 3, 64, 64), np.float32))
    assert embedding.shape == (2, 256, 4, 4)
    patch = np.zeros((2, 4, 128, 160), np.float32)
    assert cpu.compile_ir(bundle.path("unet_fold0.xml"), "f32", 1)(patch, embedding).shape == (2, 2, 128, 160)


@pytest.fixture
def quick(monkeypatch, tiny, opened, processes):
    """The benchmark without its large network, its processes, and its start of OpenVINO."""
    made = []

    def random_bundle(folder, int8):
        made.append(int8)
        return tiny

    monkeypatch.setattr(cpu, "random_bundle", random_bundle)
    monkeypatch.setattr(cpu, "describe_machine", lambda: MACHINE)
    monkeypatch.setattr(cpu, "cpu_precisions", lambda: {"f32", "bf16", "int8"})
    monkeypatch.setattr(cpu, "choose_rows", lambda names, quick: ROWS)
    return made


def candidates(*names):
    return [{"name": name, "speedup": 2.0 + index} for index, name in enumerate(names)]


def test_the_object_has_every_key(quick, monkeypatch):
    entry = {"name": cpu.BOX_NETWORK, "reference": PYTORCH, "candidates": candidates("OpenVINO bf16")}
    hybrid = {"name": cpu.HYBRID_ZOOM, "candidates": candidates("OpenVINO f32", "OpenVINO bf16")}
    monkeypatch.setattr(cpu, "_compare", lambda *args: [entry, hybrid])
    result = bench_cpu(rounds=1, threads=1)
    json.dumps(result, allow_nan=False)
    assert result["box_net_bf16_speedup"] == 2
    assert result["hybrid_zoom_speedup"] == 3
    for key in (
        "box_net_f32_speedup",
        "box_net_int8_speedup",
        "int8_over_f32_without_bf16",
        "encoder1024_bf16_speedup",
    ):
        assert result[key] is None
    assert len(result["rows"]) == 2
    assert result["machine"] == MACHINE
    assert result["threads"] == 1
    assert {"nnsam", "nncf", "python"} <= set(result["versions"])


def test_what_this_machine_lacks_is_noted(quick, monkeypatch):
    monkeypatch.setattr(cpu, "cpu_precisions", lambda: {"f32", "int8"})
    monkeypatch.setitem(sys.modules, "nncf", None)
    result = bench_cpu(rounds=1, ratios=False)
    assert result["precisions"] == ["f32"]
    assert quick == [False]
    assert ["bf16" in note or "NNCF" in note for note in result["notes"]] == [True, True]


def test_int8_comes_with_a_quantised_random_network(quick, monkeypatch):
    monkeypatch.setattr(cpu, "find_spec", lambda name: object())
    assert bench_cpu(rounds=1, ratios=False, cold=False)["precisions"] == ["f32", "bf16", "int8"]
    assert quick == [True]


def test_a_users_bundle_is_measured_in_what_it_has(quick, tiny):
    result = bench_cpu(tiny.folder, rounds=1, ratios=False, cold=False)
    assert quick == []
    assert result["model"] == "bundle"
    assert result["precisions"] == ["f32", "bf16"]
    assert "int8 was left out: bundle has no network for it" in result["notes"]


def test_wrong_arguments_are_named(quick, tmp_path):
    with pytest.raises(InputError, match="precision 'fp16' is unknown"):
        bench_cpu(precisions=["fp16"])
    with pytest.raises(InputError, match="no bundle"):
        bench_cpu(tmp_path)
