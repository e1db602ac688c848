"""The wheel in a fresh environment: trainers are found, nothing stays after uninstalling."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLE = "nnUNet_extTrainer"


def call(*command, **variables) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet", "NNSAM"))}
    process = subprocess.run(
        list(map(str, command)), env={**environment, **variables}, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built without isolation: setuptools is here (torch asks for it), and the network may not be."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy, because a build in place leaves folders behind.
    call("git", "clone", "--quiet", REPOSITORY, source)
    for name in ("nnsam", "trainers", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        call("cp", "-r", REPOSITORY / name, source)
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    return next(folder.glob("nnsam-*.whl"))


def test_the_wheel_holds_every_package_and_the_start_up_hook(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"nnsam.pth", "nnsam.start", "nnsam/py.typed", "nnsam/trainers/nnsam_trainers.py"} <= set(names)
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "nnsam").rglob("*.py")}
    assert modules <= set(names), f"not in the wheel: {sorted(modules - set(names))}"


@pytest.fixture
def environment(tmp_path):
    """A virtual environment that sees this one's other packages, but not this one's nnsam."""
    python = tmp_path / "venv" / "bin" / "python"
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    find = "import sysconfig; print(sysconfig.get_path('purelib'))"
    here, there = (Path(call(interpreter, "-c", find).strip()) for interpreter in (sys.executable, python))
    borrowed = tmp_path / "borrowed"
    borrowed.mkdir()
    for entry in here.iterdir():
        # Start-up files would run this environment's hook.
        if not entry.name.startswith(("nnsam", "__editable__")) and entry.suffix not in (".pth", ".start"):
            (borrowed / entry.name).symlink_to(entry)
    (there / "borrowed.pth").write_text(f"{borrowed}\n")
    return python, there


RESOLVE = """
import os
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
for name in ("nnSAMTrainer", "nnSAMLegacyTrainer", "nnSAMNoLevelSetTrainer_2epochs_sam64"):
    print("FOUND", find(name).__module__)
"""


@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_installing_makes_nnunet_find_the_trainers_and_uninstalling_leaves_nothing(
    wheel, environment, tmp_path, editable
):
    python, packages = environment
    before = sorted(path.name for path in packages.iterdir())
    source = ["--editable", REPOSITORY] if editable else [wheel]
    call(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", *source)
    found = [line for line in call(python, "-c", RESOLVE).splitlines() if line.startswith("FOUND")]
    assert found == [
        "FOUND nnsam.training.sam_trainer",
        "FOUND nnsam.training.trainers",
        "FOUND nnsam.training.trainer_names",
    ]

    own = tmp_path / "own_trainers"
    own.mkdir()
    (own / "mine.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class MyTrainer(nnUNetTrainer):\n    pass\n"
    )
    code = RESOLVE + "\nprint('OWN', find('MyTrainer').__name__)"
    printed = call(python, "-c", code, **{VARIABLE: str(own)})
    assert "OWN MyTrainer" in printed
    assert printed.count("FOUND") == 3

    call(python, "-m", "pip", "uninstall", "--quiet", "--yes", "nnsam")
    left = [name for name in sorted(path.name for path in packages.iterdir()) if name not in before]
    assert left == []
    variable = call(python, "-c", f"import os; print(repr(os.environ.get({VARIABLE!r})))")
    assert variable.strip() == "None"
