"""--json and --csv mean the same in every command."""

import argparse
import json

import pytest

from nnsam.cli.common import json_report
from nnsam.cli.main import COMMANDS, build_parser, main
from nnsam.errors import InputError


def commands(parser=None, words=()):
    """Every command and subcommand with the options of its parser."""
    parser = parser or build_parser(*COMMANDS)
    children = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not children:
        yield " ".join(words), {option: action for action in parser._actions for option in action.option_strings}
    for action in children:
        for name, child in action.choices.items():
            yield from commands(child, (*words, name))


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_the_file_may_be_left_out_everywhere(option):
    found = {name: options[option] for name, options in commands() if option in options}
    assert len(found) >= {"--json": 15, "--csv": 1}[option]
    for name, action in found.items():
        assert (action.nargs, action.const, action.default, action.metavar) == ("?", "-", None, "FILE"), name


@pytest.mark.parametrize("option", ["--overwrite", "--overlay"])
def test_switches_take_no_value_anywhere(option):
    found = {name: options[option] for name, options in commands() if option in options}
    assert found
    assert all((action.nargs, action.default) == (0, False) for action in found.values())


def test_json_goes_to_standard_output_or_to_a_file_that_does_not_exist(capsys, tmp_path):
    with json_report(None) as report:
        report("[1]")
    assert capsys.readouterr().out == ""
    with json_report("-") as report:
        report("[1]\n")
    assert capsys.readouterr().out == "[1]\n"
    path = tmp_path / "new" / "a.json"
    with json_report(str(path)) as report:
        report("[1]")
    assert (path.read_text(), capsys.readouterr().out) == ("[1]\n", "")
    with pytest.raises(InputError, match=r"a.json exists already; choose another file, or remove it"):
        json_report(str(path)).__enter__()
    assert path.read_text() == "[1]\n"


def test_work_that_fails_leaves_no_file(tmp_path):
    def fail():
        with json_report(str(tmp_path / "a.json")):
            raise InputError("failed")

    with pytest.raises(InputError, match="failed"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_command_writes_the_file_and_prints_as_usual(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("NNSAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    assert main(["weights", "status", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["weights", "status", "--json", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr().out.startswith("SAM weights: random")
    assert json.loads((tmp_path / "a.json").read_text()) == printed


def test_a_file_is_not_taken_for_the_place_of_json(capsys, tmp_path):
    """`verify --json FILE` was a file to verify in earlier versions; it must not be overwritten."""
    weights = tmp_path / "sam.pt"
    weights.write_bytes(b"weights")
    assert main(["weights", "verify", "--json", str(weights)]) == 1
    assert weights.read_bytes() == b"weights"
    with pytest.raises(SystemExit):
        main(["fewshot", "status", "--json", "study"])
    assert "--json has taken study for its file: write --json at the end" in capsys.readouterr().err
