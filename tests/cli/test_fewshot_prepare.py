"""`nnsam fewshot prepare` as a user calls it."""

import json
import shutil

import pytest
from helpers.raw_study import case_names, make_raw, write_case

from nnsam.cli import main
from nnsam.cli.fewshot import command as fewshot


@pytest.fixture
def raw(tmp_path):
    return make_raw(tmp_path / "Dataset007_Hearts")


def prepare(raw, tmp_path, *words):
    arguments = ["-d", str(raw), "-o", str(tmp_path / "study"), "--sizes", "2", "3", "--seeds", "2"]
    return main.main(["fewshot", "prepare", *arguments, *words])


def test_the_summary_names_subsets_patients_and_what_comes_next(raw, tmp_path, capsys):
    assert prepare(raw, tmp_path, "--split", "given", "--batch-size", "4") == 0
    output = capsys.readouterr().out
    for text in ("LV", "Myo", "Validation: 4 cases of 2 patients.", "Test: 4 cases of 2 patients.", "4 subsets"):
        assert text in output
    assert "nnU-Net plans from the training cases alone: configuration 2d" in output
    assert "batch size set to 4" in output
    assert f"Next: nnsam fewshot run {tmp_path / 'study'}" in output
    assert "cannot be learnt" not in output
    assert prepare(raw, tmp_path, "--split", "given", "--batch-size", "4") == 0
    assert "was there already, unchanged" in capsys.readouterr().out


def test_an_absent_class_and_the_leak_of_the_slice_rule_are_said(raw, tmp_path, capsys):
    for part, cases in (("Tr", case_names(6, 2)), ("Ts", case_names(2, 2, 7))):
        for case in cases:
            write_case(raw, part, case, classes=(1,))
    assert prepare(raw, tmp_path, "--split", "slice", "--val", "4", "--test", "4") == 0
    output = capsys.readouterr().out
    assert "cannot be learnt there: Myo in size 2 seed 0, Myo in size 2 seed 1," in output
    assert "patients may be in training and test" in output


def test_it_is_said_when_cases_of_the_test_folder_are_drawn_from(raw, tmp_path, capsys):
    for rule in ("patient", "slice"):
        assert prepare(raw, tmp_path / rule, "--split", rule, "--val", "4", "--test", "4") == 0
        assert "Drawn from 16 cases, 4 of them from imagesTs, which may be trained on" in capsys.readouterr().out
    assert prepare(raw, tmp_path / "given", "--split", "given") == 0
    assert "imagesTs" not in capsys.readouterr().out
    for part in ("imagesTs", "labelsTs"):
        shutil.rmtree(raw / part)
    assert prepare(raw, tmp_path / "without", "--val", "4", "--test", "4") == 0
    assert "Drawn from 12 cases.\n" in capsys.readouterr().out


def test_json_can_be_read_by_programs(raw, tmp_path, capsys):
    assert prepare(raw, tmp_path, "--split", "patient", "--val", "4", "--test", "4", "--planning", "all", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content["subsets"]) == ["n2_s0", "n2_s1", "n3_s0", "n3_s1"]
    assert content["subsets"]["n3_s1"]["cases"] == 3
    assert (content["validation"], content["test"], content["is_new"]) == (4, 4, True)
    assert (content["cases"], content["cases_of_imagesTs"]) == (16, 4)


def test_plan_plans_every_subset(raw, tmp_path, monkeypatch, capsys):
    planned = []
    monkeypatch.setattr("nnsam.fewshot.study.planning.plan_subset", lambda *arguments: planned.append(arguments))
    assert prepare(raw, tmp_path, "--split", "given", "--plan", "--np", "3") == 0
    assert planned == [(tmp_path / "study", size, seed, 3) for size in (2, 3) for seed in (0, 1)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "patient"), "say how many with --val and --test"),
        (("--split", "patient", "--val", "4", "--test", "12"), "none is left for training"),
        (("--split", "given", "--seeds", "0"), "found --seeds 0 --np 1; expected numbers of at least 1"),
        (("--split", "given", "--patient-regex", "("), "is not a regular expression"),
        (("--split", "given", "--patient-regex", "(patient)"), "patient patient has cases in"),
    ],
)
def test_mistakes_end_with_one_sentence(raw, tmp_path, capsys, words, message):
    assert prepare(raw, tmp_path, *words) == 1
    error = capsys.readouterr().err
    assert error.startswith("nnsam fewshot: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_every_sub_command_is_listed_with_its_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["fewshot", "--help"])
    assert caught.value.code == 0
    listed = capsys.readouterr().out.split("positional arguments")[1]
    assert list(fewshot.COMMANDS) == ["prepare", "run", "status", "report"]
    for name, (_, summary) in fewshot.COMMANDS.items():
        assert name in listed
        assert summary.split(",")[0] in listed
