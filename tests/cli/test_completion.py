"""Completion by the tab key, as a shell does it."""

import shutil
import subprocess
import sys

import pytest

from nnsam.cli.completion import SHELLS
from nnsam.cli.main import COMMANDS, main


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "nnsam.bash"
    printed = subprocess.run([sys.executable, "-m", "nnsam", "completion", "bash"], capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    path.write_text(printed.stdout)
    return path


def completed(script, folder, *words):
    """What bash offers for the last word."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    code = (
        f'source "{script}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_shtab_nnsam nnsam "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run([bash, "-c", code, "bash", "nnsam", *words], cwd=folder, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["plan"], ["plan-box"]),
        (["fewshot", "re"], ["report"]),
        (["bench", "c"], ["cpu"]),
        (["bench", "box", "--grab"], ["--grabcut"]),
        (["segment", "--mode", "f"], ["faithful"]),
        (["segment", "-i", "lesi"], ["lesions.png"]),
        (["export", "mod"], ["model_folder"]),
        (["segment", "--grab"], []),
    ],
)
def test_commands_options_choices_and_files_are_offered(script, tmp_path, words, offered):
    (tmp_path / "lesions.png").touch()
    (tmp_path / "model_folder").mkdir()
    assert completed(script, tmp_path, *words) == offered


def test_every_command_is_offered(script, tmp_path):
    assert set(completed(script, tmp_path, "")) >= set(COMMANDS)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_it_can_read(capsys, tmp_path, shell):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "nnsam" in text
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell) and shell != "tcsh":
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_without_shtab_a_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "run: pip install shtab" in capsys.readouterr().err
