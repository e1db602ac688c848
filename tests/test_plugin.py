"""nnU-Net finds the trainers after a mere installation, and other people's trainers are left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find

from nnsam import _autoload
from nnsam.errors import InputError
from nnsam.training.trainer_names import TRAINERS, trainer_class

TRAINER_OF_A_USER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
class nnSAMTrainer(nnUNetTrainer):
    mine = True
class MyOwnTrainer(nnUNetTrainer):
    mine = True
"""


def run(code: str) -> subprocess.CompletedProcess:
    """Runs code in an interpreter of this installation that inherits nothing but what it needs to start."""
    needed = ("PATH", "HOME", "SYSTEMROOT", "LD_LIBRARY_PATH", "PYTHONPATH")
    kept = {name: os.environ[name] for name in needed if name in os.environ}
    return subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, timeout=120)


@pytest.fixture
def only_ours(monkeypatch) -> str:
    folder = _autoload.trainer_folder()
    monkeypatch.setenv(_autoload.VARIABLE, folder)
    return folder


@pytest.mark.parametrize("name", [*TRAINERS, *(f"{name}_2epochs_10iters_seed1" for name in TRAINERS)])
def test_nnunet_finds_every_trainer(only_ours, name):
    cls = find(name)
    assert cls is trainer_class(name)
    assert cls.__name__ == name
    assert cls.__module__.startswith("nnsam.")


def test_a_second_search_finds_the_same_class(only_ours):
    assert find("nnSAMTrainer_2epochs") is find("nnSAMTrainer_2epochs")
    assert "nnsam_trainers" not in sys.modules  # nnU-Net removes it, which is why it holds no classes


def test_the_start_up_hook_of_the_installation_serves_child_processes():
    # A spawned child scans the folder as nnU-Net does; our refusal shows that the search has arrived. The parent
    # imports nothing. Needs an installation (pip install .).
    search = (
        "import os\n"
        "from nnunetv2.utilities.find_class_by_name import recursive_find_python_class\n"
        "recursive_find_python_class(os.environ['nnUNet_extTrainer'], 'nnSAMTrainer_fast', None)"
    )
    found = run(
        "import multiprocessing, os\n"
        "if __name__ == '__main__':\n"
        f"    child = multiprocessing.get_context('spawn').Process(target=exec, args=[{search!r}])\n"
        "    child.start(); child.join()\n"
        "    print(os.environ['nnUNet_extTrainer'], child.exitcode, sep='|')\n"
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == f"{_autoload.trainer_folder()}|1"
    assert "InputError: trainer name 'nnSAMTrainer_fast' has the unknown option 'fast'" in found.stderr


def test_a_users_own_folder_keeps_working_and_wins(monkeypatch, tmp_path):
    (tmp_path / "trainer_of_a_user.py").write_text(TRAINER_OF_A_USER)
    monkeypatch.setenv(_autoload.VARIABLE, str(tmp_path))
    _autoload.register()
    assert os.environ[_autoload.VARIABLE] == f"{tmp_path}{os.pathsep}{_autoload.trainer_folder()}"
    assert find("MyOwnTrainer").mine
    assert find("nnSAMTrainer").mine
    assert find("nnSAMNoLevelSetTrainer") is trainer_class("nnSAMNoLevelSetTrainer")


def test_folders_behind_ours_are_still_searched(monkeypatch, tmp_path):
    (tmp_path / "trainer_of_a_user.py").write_text(TRAINER_OF_A_USER.replace("nnSAMTrainer", "nnSAMOwnTrainer"))
    monkeypatch.setenv(_autoload.VARIABLE, f"{_autoload.trainer_folder()}{os.pathsep}{tmp_path}")
    assert find("nnSAMOwnTrainer").mine
    assert find("MyOwnTrainer").mine


def test_a_folder_behind_ours_that_is_absent_is_no_stack_of_ours(monkeypatch, tmp_path):
    from nnsam.trainers import nnsam_trainers

    monkeypatch.setenv(_autoload.VARIABLE, f"{_autoload.trainer_folder()}{os.pathsep}{tmp_path / 'absent'}")
    with pytest.raises(AttributeError, match="nnSAMOwnTrainer"):
        nnsam_trainers.nnSAMOwnTrainer  # noqa: B018


def test_nnunets_own_trainers_and_errors_stay(only_ours):
    assert find("nnUNetTrainer").__module__ == "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer NoSuchTrainer"):
        find("NoSuchTrainer")
    with pytest.raises(InputError, match=r"unknown trainer 'nnSAMTrainers_2epochs'.*did you mean nnSAMTrainer"):
        find("nnSAMTrainers_2epochs")


def test_an_unknown_option_is_told_by_us(only_ours):
    with pytest.raises(InputError, match="unknown option 'fast'"):
        find("nnSAMTrainer_fast")


def test_registering_twice_changes_nothing(monkeypatch):
    monkeypatch.delenv(_autoload.VARIABLE, raising=False)
    values = []
    for _ in range(3):
        _autoload.register()
        values.append(os.environ[_autoload.VARIABLE])
    assert values == [_autoload.trainer_folder()] * 3
    assert (Path(values[0]) / "nnsam_trainers.py").is_file()


@pytest.mark.parametrize("value", ["", " ", os.pathsep])
def test_an_empty_variable_counts_as_unset(monkeypatch, value):
    monkeypatch.setenv(_autoload.VARIABLE, value)
    _autoload.register()
    assert os.environ[_autoload.VARIABLE] == _autoload.trainer_folder()


def test_a_half_removed_package_does_not_stop_the_interpreter(monkeypatch):
    monkeypatch.delenv(_autoload.VARIABLE, raising=False)
    for defect in (lambda: None, lambda: 1 / 0):
        monkeypatch.setattr(_autoload, "trainer_folder", defect)
        _autoload.register()
        assert _autoload.VARIABLE not in os.environ


def test_importing_nnsam_and_searching_for_others_imports_next_to_nothing():
    found = run(
        "import json, sys, nnsam\n"
        "sys.path.insert(0, nnsam._autoload.trainer_folder())\n"
        "import nnsam_trainers\n"
        "assert not hasattr(nnsam_trainers, 'SomebodyElsesTrainer')\n"
        "assert not hasattr(nnsam_trainers, 'nnUNetTrainer')\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    assert found.returncode == 0, found.stderr
    modules = set(json.loads(found.stdout))
    assert not {"torch", "numpy", "nnunetv2", "timm", "nnsam.training"} & modules
    assert {name for name in modules if name.startswith("nnsam.")} == {"nnsam._autoload"}
