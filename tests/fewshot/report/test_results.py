"""Scores of a synthetic study come back as they were written, and every way of spoiling it is told."""

import json
import shutil

import numpy as np
import pytest
from helpers.synthetic_results import STRUCTURES, make_protocol, make_run, make_study, record_again

from nnsam.errors import InputError
from nnsam.fewshot.report.results import legacy_results, over_structures, read_results


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    make_study(folder, predictions=False)
    return folder


@pytest.fixture
def study(tmp_path, template):
    return shutil.copytree(template, tmp_path / "study")


def edit(run, change, file="scores.json", record=True):
    """Changes a file of scores; with `record`, run.json takes it for the run's own."""
    content = json.loads((run / file).read_text())
    change(content)
    (run / file).write_text(json.dumps(content))
    if record:
        record_again(run)


def test_every_score_is_where_it_belongs(study):
    results = read_results(study)
    assert results.methods == ("nnUNetTrainer", "nnSAMTrainer", "unet")
    assert results.scores.shape == (3, 2, 3, 12, 5, 4)
    assert results.done.all()
    for method, size, seed in (("unet", 4, 0), ("nnSAMTrainer", 8, 2)):
        content = json.loads((study / "runs" / method / f"n{size}_s{seed}" / "scores.json").read_text())
        for row, case in enumerate(results.cases):
            for column, structure in enumerate(STRUCTURES):
                entry = content["cases"][case][structure]
                for metric, factor in (("dice", 100), ("asd", 1), ("nsd", 100), ("hd95", 1)):
                    found = results.of(method, size, metric)[seed, row, column]
                    expected = np.nan if entry[metric] is None else factor * entry[metric]
                    assert found == pytest.approx(expected, nan_ok=True)
                place = results.methods.index(method), results.sizes.index(size), seed, row, column
                assert results.empty_prediction[place] == entry["empty_prediction"]


def test_the_validation_cases_are_other_ones(study):
    results = read_results(study, validation=True)
    assert results.part == "validation"
    assert results.cases == ("v000", "v001", "v002")


def test_validation_scores_that_were_not_made_are_asked_for(study):
    for path in study.glob("runs/*/*/scores_validation.json"):
        path.unlink()
    with pytest.raises(InputError, match=r"no scores of the validation cases.*--score-validation"):
        read_results(study, validation=True)


def test_missing_and_failed_runs_leave_gaps(tmp_path):
    protocol = make_study(tmp_path, predictions=False, skip={("unet", 4, 1), ("unet", 8, 0)})
    make_run(tmp_path, protocol, "unet", 8, 0, 0.5, state="failed", error="out of memory")
    results = read_results(tmp_path)
    assert results.finished("unet", 4).tolist() == [True, False, True]
    assert results.finished("unet", 8).tolist() == [False, True, True]
    assert np.isnan(results.of("unet", 8, "dice")[0]).all()
    assert len(results.runs) == 17


def test_the_legacy_rules_reward_total_misses(tmp_path):
    absent = np.zeros((12, 5), bool)
    absent[2, 3] = True
    make_study(tmp_path, absent=absent, predictions=False)
    results = read_results(tmp_path)
    legacy = legacy_results(results)
    missed = results.empty_prediction & ~results.empty_reference
    assert missed.any()
    assert (results.scores[..., 0][missed] == 0).all()
    assert np.isnan(results.scores[..., 1][missed]).all()
    assert (legacy.scores[..., 0][missed] == 0).all()
    assert (legacy.scores[..., 1][missed] == 0).all()
    predicted = results.done & ~results.empty_prediction[..., 2, 3]
    assert predicted.any()
    assert (legacy.scores[..., 2, 3, 0][predicted] == 100).all()
    assert (legacy.scores[..., 2, 3, 0][results.done & results.empty_prediction[..., 2, 3]] == 0).all()
    assert (legacy.scores[..., 2, 3, 1] == 0).all()
    whole = ~results.empty_prediction & ~results.empty_reference
    assert (legacy.scores[whole][:, :2] == results.scores[whole][:, :2]).all()
    assert legacy.rules.profile == "legacy"


def test_legacy_scores_come_from_the_runs_own_files(study):
    def same_for_all(content):
        for case in content["cases"].values():
            for entry in case.values():
                entry |= {"dice": 0.5, "asd": 7.0}

    for run in study.glob("runs/*/*"):
        edit(run, same_for_all, "scores_legacy.json")
    legacy = legacy_results(read_results(study))
    assert legacy.rules.unit == "px"
    assert (legacy.scores[..., 0] == 50).all()
    assert (legacy.scores[..., 1] == 7).all()


def test_missing_legacy_scores_are_told(study):
    next(iter(study.glob("runs/*/*"))).joinpath("scores_legacy.json").unlink()
    with pytest.raises(InputError, match=r"1 of 18 finished runs have no legacy scores .* again, which makes them"):
        legacy_results(read_results(study))


def test_validation_cases_have_no_legacy_scores(study):
    with pytest.raises(InputError, match="the validation cases have no scores of the legacy profile"):
        legacy_results(read_results(study, validation=True))


def test_the_mean_over_structures_leaves_out_what_is_undefined():
    found = over_structures(np.array([[0.2, np.nan, 0.4], [np.nan] * 3]))
    np.testing.assert_allclose(found, [0.3, np.nan])


def test_a_study_without_runs_says_how_to_start_them(tmp_path):
    make_protocol(tmp_path)
    with pytest.raises(InputError, match="holds no runs; start them with `nnsam fewshot run"):
        read_results(tmp_path)


def test_a_study_without_finished_runs_says_where_they_stand(tmp_path):
    make_run(tmp_path, make_protocol(tmp_path), "unet", 4, 0, 0.5, state="training")
    with pytest.raises(InputError, match=r"none of the 1 runs .*\(unet n4_s0: training\)"):
        read_results(tmp_path)


def test_a_run_of_no_subset_is_refused(study):
    shutil.copytree(study / "runs" / "unet" / "n4_s0", study / "runs" / "unet" / "n5_s0")
    with pytest.raises(InputError, match=r"n5_s0 is no subset of the study, which has n4_s0"):
        read_results(study)


def test_a_run_of_another_study_is_refused(study):
    protocol = make_protocol(study.parent / "other", cases=10)
    shutil.rmtree(study / "runs" / "unet" / "n4_s0")
    make_run(study, protocol, "unet", 4, 0, 0.5)
    with pytest.raises(InputError, match="protocol digest"):
        read_results(study)


@pytest.mark.parametrize("package", ["nnsam", "nnunetv2", "torch"])
def test_mixed_versions_are_named_and_can_be_accepted(tmp_path, package):
    protocol = make_study(tmp_path, predictions=False, skip={("unet", 8, 1)})
    versions = {"python": "3.11.9", "nnsam": "0.4.0", "nnunetv2": "2.8.1", "torch": "2.8.0", package: "9.9"}
    make_run(tmp_path, protocol, "unet", 8, 1, 0.5, versions=versions)
    with pytest.raises(InputError, match=rf"version of {package}: .*9\.9 \(unet n8_s1\).*--allow-mixed-versions"):
        read_results(tmp_path)
    assert read_results(tmp_path, allow_mixed_versions=True).done.all()


def test_mixed_budgets_are_refused_even_if_versions_may_mix(tmp_path):
    protocol = make_study(tmp_path, predictions=False, skip={("unet", 8, 1)})
    make_run(tmp_path, protocol, "unet", 8, 1, 0.5, budget={"epochs": 5, "iterations": 40})
    with pytest.raises(InputError, match=r"differ in their budget: epochs 4.*epochs 5, iterations 40 \(unet n8_s1\)"):
        read_results(tmp_path, allow_mixed_versions=True)


def test_a_trainer_with_a_budget_of_its_own_is_let_pass(tmp_path):
    protocol = make_study(tmp_path, predictions=False)
    make_run(tmp_path, protocol, "theirs", 4, 0, 0.5, budget={"epochs": None, "iterations": None})
    assert "theirs" in read_results(tmp_path).methods


def test_mixed_predictions_are_refused(tmp_path):
    protocol = make_study(tmp_path, predictions=False, skip={("unet", 8, 1)})
    make_run(tmp_path, protocol, "unet", 8, 1, 0.5, prediction={"tta": True})
    with pytest.raises(InputError, match=r"prediction: tta off.*tta on \(unet n8_s1\)"):
        read_results(tmp_path)


def test_edited_scores_and_predictions_are_told(tmp_path):
    study = tmp_path
    make_study(study, methods={"unet": 0.5}, sizes=(4,), seeds=(0,))
    run = study / "runs" / "unet" / "n4_s0"
    before = (run / "scores.json").read_text()
    edit(run, lambda content: content["cases"]["t000"]["LV"].update(dice=0.99), record=False)
    with pytest.raises(InputError, match=r"scores\.json was edited"):
        read_results(study)
    (run / "scores.json").write_text(before)
    shutil.copy(run / "predictions" / "t001.png", run / "predictions" / "t000.png")
    with pytest.raises(InputError, match=r"predictions was edited.*t000"):
        read_results(study)


def test_a_finished_run_without_scores_is_told(study):
    (study / "runs" / "unet" / "n4_s0" / "scores.json").unlink()
    with pytest.raises(InputError, match=r"scores\.json is missing"):
        read_results(study)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["cases"].pop("t003"), r"lacks 1 of the 12 cases \(t003\)"),
        (lambda content: content["cases"].update(x=content["cases"]["t000"]), "holds x among the cases"),
        (lambda content: content["cases"]["t003"].pop("RV"), r"lacks 1 of the 5 structures of case t003 \(RV\)"),
        (lambda content: content["cases"]["t003"].update(Aorta={}), "holds Aorta among the structures of case t003"),
        (lambda content: content["cases"]["t003"]["RV"].update(dice=1.2), "scores of case t003 that cannot be"),
        (lambda content: content["cases"]["t003"]["RV"].update(asd=-1.0), "scores of case t003 that cannot be"),
        (lambda content: content["cases"]["t003"]["RV"].update(dice=None), "scores of case t003 that cannot be"),
        (lambda content: content["cases"]["t003"]["RV"].update(dice="good"), "is damaged"),
        (lambda content: content["cases"]["t003"]["RV"].pop("empty_reference"), "is damaged"),
        (lambda content: content.pop("unit"), "is damaged"),
        (lambda content: content.update(cases=[1]), "lacks 12 of the 12 cases"),
        (lambda content: content.update(profile="legacy"), "of the profile legacy; expected standard"),
        (lambda content: content.update(unit="px"), r"scored by different rules .*px.*\(unet n4_s0\)"),
        (lambda content: content.update(nsd_tolerance=1.0), "scored by different rules"),
        (
            lambda content: content["cases"]["t003"]["RV"].update(
                dice=0.0, asd=None, nsd=0.0, hd95=None, empty_reference=True, empty_prediction=False
            ),
            "unet n4_s0 .* different references",
        ),
    ],
)
def test_scores_that_do_not_fit_are_told(study, change, message):
    edit(study / "runs" / "unet" / "n4_s0", change)
    with pytest.raises(InputError, match=message):
        read_results(study)
