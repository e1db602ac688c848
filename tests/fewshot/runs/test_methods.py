"""Which methods there are, and which trainer each one becomes."""

import sys

import pytest
from helpers.fake_study import let_nnunet_find

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.runs.methods import (
    METHODS,
    check_available,
    find_method,
    find_methods,
    recorded_budget,
    trainer_name,
)
from nnsam.fewshot.runs.options import Budget
from nnsam.training.trainer_names import TRAINERS, parse_options


def test_every_trainer_name_is_one_that_nnsam_understands():
    for method in METHODS.values():
        name = trainer_name(method, Budget(4, 40), 7)
        base, options = parse_options(name)
        assert base in TRAINERS
        assert options == {"epochs": 4, "iterations": 40, "seed": 7}


def test_stock_nnunet_is_trained_as_the_subclass_that_adds_numbers_only():
    assert trainer_name(find_method("nnUNetTrainer"), Budget(), 3) == "nnSAMBaselineTrainer_seed3"
    with pytest.raises(InputError, match="give nnUNetTrainer as the method"):
        find_method("nnSAMBaselineTrainer")
    with pytest.raises(InputError, match="give swinunet as the method"):
        find_method("nnSAMSwinUNETRTrainer_4epochs")


def test_options_of_the_encoder_are_kept():
    method = find_method("nnSAMTrainer_sam256")
    assert method.needs_sam
    assert trainer_name(method, Budget(4, 40), 1) == "nnSAMTrainer_sam256_4epochs_40iters_seed1"
    assert trainer_name(find_method("autosam_sam512"), Budget(), 0) == "nnSAMAutoSAMTrainer_sam512_seed0"


@pytest.mark.parametrize("option", ["4epochs", "40iters", "seed1"])
def test_budget_and_seed_are_not_the_methods(option):
    with pytest.raises(InputError, match="which --epochs, --iterations and --seeds do"):
        find_method(f"nnSAMTrainer_{option}")


@pytest.mark.parametrize("name", ["resnet", "nnSAMBoxTrainer", "../nnUNetTrainer", "nnUNetTrainer; rm"])
def test_unknown_methods_list_the_known_ones(name, monkeypatch):
    let_nnunet_find(monkeypatch)
    with pytest.raises(InputError, match=r"unknown; known are nnUNetTrainer, nnSAMTrainer.*autosam"):
        find_method(name)


def test_nnunets_search_is_not_printed(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    with pytest.raises(InputError, match=r"the method 'nnUNetTrainerr' is unknown.*did you mean nnUNetTrainer"):
        find_method("nnUNetTrainerr")
    assert capsys.readouterr().out == ""


def test_misspelled_trainers_of_nnsam_are_unknown_methods_with_a_suggestion(capsys):
    with pytest.raises(InputError, match=r"'nnSAMTrainr_sam256' is unknown; known are .*did you mean nnSAMTrainer"):
        find_method("nnSAMTrainr_sam256")
    assert capsys.readouterr().out == ""


def test_other_trainers_of_nnunet_have_their_own_budget(monkeypatch):
    asked = let_nnunet_find(monkeypatch, "nnUNetTrainer_5epochs")
    method = find_method("nnUNetTrainer_5epochs")
    assert method.has_own_budget
    assert trainer_name(method, Budget(4, 40), 1) == "nnUNetTrainer_5epochs"
    assert recorded_budget(method, Budget(4, 40)) == {"epochs": None, "iterations": None}
    # Names that are no identifiers never reach nnU-Net's search through files.
    with pytest.raises(InputError):
        find_method("a/b")
    assert asked == ["nnUNetTrainer_5epochs"]


def test_nnunet_is_asked_for_other_trainers(monkeypatch):
    let_nnunet_find(monkeypatch, "nnUNetTrainerNoDA")
    assert find_method("nnUNetTrainerNoDA").has_own_budget
    with pytest.raises(InputError):
        find_method("nnUNetTrainerNone")


def test_twice_the_same():
    with pytest.raises(InputError, match="given 2 times"):
        find_methods(["unet", "nnUNetTrainer", "unet"])


def test_monai_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    check_available(METHODS["nnSAMTrainer"])
    with pytest.raises(SetupError, match=r"the method swinunet needs MONAI; (run|install)"):
        check_available(METHODS["swinunet"])
