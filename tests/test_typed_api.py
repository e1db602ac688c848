"""A type checker sees real types behind every public name, although most are imported on first use."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nnsam

ROOT = Path(nnsam.__file__).parents[1]
PACKAGES = (
    *("nnsam", "nnsam.geometry", "nnsam.inference", "nnsam.io", "nnsam.losses", "nnsam.metrics", "nnsam.networks"),
    *("nnsam.runtime", "nnsam.weights"),
)
# What users call on what they get.
MEMBERS = (
    *("nnsam.inference.BoxPredictor.open", "nnsam.inference.BoxPredictor.from_folder"),
    *("nnsam.inference.BoxPredictor.predict", "nnsam.inference.Predictor.open", "nnsam.inference.Predictor.predict"),
    *("nnsam.inference.Bundle.open", "nnsam.runtime.Predictor.predict", "nnsam.runtime.BoxPredictor.predict"),
    *("nnsam.networks.MobileSAMEncoder.from_checkpoint", "nnsam.networks.MobileSAMEncoder.random"),
    *("nnsam.exporting.export_model.export_model", "nnsam.training.box_planning.plan_box"),
    *("nnsam.nnunet.commands.run_nnunet", "nnsam.metrics.evaluation.evaluate"),
)


def public_names() -> list[str]:
    return [f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__]


def untyped(names: list[str], folder: Path) -> dict[str, str]:
    """Names that mypy knows nothing of: those that are Any, that it does not find, or that have no annotations."""
    modules = sorted({module_of(name) for name in names})
    file = folder / "names.py"
    lines = [f"import {module}" for module in modules] + [f"reveal_type({name})" for name in names]
    file.write_text("\n".join(lines) + "\n")
    (folder / "mypy.ini").write_text("[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "mypy.ini",
        "--cache-dir",
        str(folder / "cache"),
        str(file),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500)
    found = dict(re.findall(r"names\.py:(\d+): (.*)", run.stdout))
    told = {name: found.get(str(len(modules) + 1 + index), "nothing") for index, name in enumerate(names)}
    assert any("Revealed type" in line for line in told.values()), run.stdout + run.stderr
    return {name: line for name, line in told.items() if not is_typed(line)}


def module_of(name: str) -> str:
    while not is_module(name):
        name = name.rpartition(".")[0]
    return name


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_typed(line: str) -> bool:
    match = re.search(r'Revealed type is "(.*)"', line)
    # Callables without annotations are `def (a: Any) -> Any`; a result of Any tells a caller nothing.
    return match is not None and match[1] != "Any" and not match[1].endswith("-> Any")


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ('note: Revealed type is "def (path: str) -> nnsam.io.image.Image"', True),
        ('note: Revealed type is "Any"', False),
        ('note: Revealed type is "def (x: Any) -> Any"', False),
        ('error: Module has no attribute "x"  [attr-defined]', False),
        ("nothing", False),
    ],
)
def test_what_counts_as_typed(line, typed):
    assert is_typed(line) == typed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_public_name_is_any(tmp_path):
    pytest.importorskip("mypy")
    assert untyped([*public_names(), *MEMBERS], tmp_path) == {}


@pytest.mark.slow
def test_names_without_types_are_found(tmp_path, monkeypatch):
    pytest.importorskip("mypy")
    package = tmp_path / "lazy"
    package.mkdir()
    (package / "__init__.py").write_text("def __getattr__(name: str):\n    return 1\n\ndef f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = untyped(["lazy.hidden", "lazy.f", "nnsam.__version__"], tmp_path)
    assert set(found) == {"lazy.hidden", "lazy.f"}
