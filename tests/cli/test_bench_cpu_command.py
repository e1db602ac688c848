import json

import pytest

from nnsam.bench.cpu import run as cpu
from nnsam.cli.main import main

CANDIDATE = {"median_s": 0.25, "min_s": 0.2, "max_s": 0.4, "speedup_low": 1.0, "speedup_high": 2.0}
FIGURES = {"warm_s": 0.042, "warm_min_s": 0.04, "warm_max_s": 0.05, "passes": 1, "cold_s": 1.75}
FIGURES |= {"cold_uncached_s": 4.5, "peak_mb": 987.0, "peak_uncached_mb": 1200.0}
RESULT = {
    "box_net_bf16_speedup": 7.125,
    "comparisons": [
        {
            "name": "box network, one patch",
            "reference": "PyTorch float32",
            "candidates": [
                {"name": "OpenVINO bf16", **CANDIDATE, "speedup": 7.125, "speedup_of_minima": 7.0, "speedup_high": 8.0},
                {"name": "PyTorch float32", **CANDIDATE, "speedup": 1.0, "speedup_of_minima": 1.0},
            ],
        }
    ],
    "rows": [
        {"name": "US_0525", "shape": [256, 256, 3], "boxes": 1, "slices": None, "precision": "bf16", **FIGURES},
        {"name": "CT_0566", "shape": [287, 512, 512], "boxes": 6, "slices": 16, "precision": "bf16", **FIGURES},
    ],
    "notes": ["int8 was left out: [no] reason"],
    "model": "71.8 M parameters, random weights",
    "threads": 2,
    "machine": {"processor": "some processor", "cpu_features": ["amx_bf16"]},
    "versions": {"openvino": "2026", "nncf": None},
}
RESULT["rows"][0]["precisions"] = {"bf16": dict(FIGURES)}
RESULT["rows"][1]["precisions"] = {"bf16": {**FIGURES, "s_per_slice_and_object": 0.037, "whole_volume_s": 60.0}}


@pytest.fixture
def asked(monkeypatch):
    """Replaces the measuring; returns what it was asked for."""
    calls = []

    def bench_cpu(model, **options):
        options.pop("progress")("something")
        calls.append((model, options))
        return RESULT

    monkeypatch.setattr(cpu, "bench_cpu", bench_cpu)
    return calls


def test_one_json_object(asked, capsys):
    words = ["--model", "bundle", "--rounds", "2", "--rows", "us", "ct", "--precisions", "bf16", "--slices-limit", "0"]
    assert main(["bench", "cpu", "--json", "--quick", *words]) == 0
    assert json.loads(capsys.readouterr().out) == RESULT
    [(model, options)] = asked
    assert model == "bundle"
    assert options["rows"] == ["us", "ct"]
    assert options["precisions"] == ["bf16"]
    assert options["slices_limit"] is None
    assert (options["rounds"], options["quick"]) == (2, True)


def test_tables(asked, capsys):
    assert main(["bench", "cpu"]) == 0
    output = capsys.readouterr().out
    for expected in (
        *("7.12", "1.00 to 8.00", "US_0525", "16 slices*", "0.042", "0.037", "1.75", "4.50", "987", "[no] reason"),
        *("some processor, 2 threads", "openvino 2026"),
    ):
        assert expected in output
    assert "None" not in output
    assert asked[0][1]["slices_limit"] == 16


def test_files(asked, tmp_path):
    for _ in range(2):  # the second time they are replaced
        assert main(["bench", "cpu", "--out", str(tmp_path / "new" / "figures"), "--json"]) == 0
    folder = tmp_path / "new" / "figures"
    assert sorted(path.name for path in folder.iterdir()) == ["cpu.json", "cpu.png"]
    assert json.loads((folder / "cpu.json").read_text()) == RESULT
    assert (folder / "cpu.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rounds", "0"], "--rounds is 0"),
        (["--slices-limit", "-1"], "--slices-limit is -1"),
        (["--threads", "-2"], "--threads is -2"),
    ],
)
def test_wrong_options_are_one_sentence(asked, capsys, words, expected):
    assert main(["bench", "cpu", *words]) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert asked == []


def test_a_place_that_cannot_be_written_to_is_named_before_anything_is_measured(asked, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["bench", "cpu", "--out", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert asked == []


def test_unknown_rows_and_precisions(capsys):
    assert main(["bench", "cpu", "--rows", "gastroscopy"]) == 1
    assert "there is no row 'gastroscopy'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "cpu", "--precisions", "fp16"])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "cpu", "--device", "cuda"])
    assert stopped.value.code == 2
    assert "found 'cuda'; expected cpu" in capsys.readouterr().err


def test_each_benchmark_has_its_own_help_and_options(capsys):
    texts = {}
    for name in ("box", "cpu", "train"):
        with pytest.raises(SystemExit):
            main(["bench", name, "--help"])
        texts[name] = capsys.readouterr().out
    assert [name for name, text in texts.items() if "--grabcut" in text] == ["box"]
    assert [name for name, text in texts.items() if "--slices-limit" in text] == ["cpu"]
    assert [name for name, text in texts.items() if "--size" in text] == ["train"]
    for name, text in texts.items():
        assert f"nnsam bench {name}" in text.split("Example:")[1]


@pytest.mark.parametrize("change", [{"comparisons": []}, {"rows": []}, {"comparisons": [], "rows": []}])
def test_parts_may_be_absent(tmp_path, change, capsys):
    from nnsam.bench.cpu.output import write_results
    from nnsam.cli.bench import print_cpu_tables

    write_results({**RESULT, **change}, tmp_path)
    assert (tmp_path / "cpu.png").stat().st_size > 1000
    print_cpu_tables({**RESULT, **change})
    assert "threads" in capsys.readouterr().out
