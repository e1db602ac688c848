"""Trainer names with options: what they mean, which are refused, and that their classes behave like written ones."""

import inspect
import pickle
import re

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnsam.errors import InputError
from nnsam.training import trainer_names
from nnsam.training.trainer_names import TRAINERS, parse_options, trainer_class

ALL = {"epochs": 2, "iterations": 10, "sam_size": 256, "seed": 1}


@pytest.mark.parametrize(
    ("name", "base", "options"),
    [
        ("nnSAMTrainer", "nnSAMTrainer", {}),
        ("nnSAMTrainer_50epochs", "nnSAMTrainer", {"epochs": 50}),
        ("nnSAMTrainer_2epochs_10iters_sam256_seed1", "nnSAMTrainer", ALL),
        ("nnSAMTrainer_seed1_sam256_10iters_2epochs", "nnSAMTrainer", ALL),
        ("nnSAMLegacyTrainer_sam1024", "nnSAMLegacyTrainer", {"sam_size": 1024}),
        ("nnSAMTrainer_seed0", "nnSAMTrainer", {"seed": 0}),
        (f"nnSAMTrainer_seed{2**32 - 1}", "nnSAMTrainer", {"seed": 2**32 - 1}),
        ("nnSAMTrainer_ls30_curv250", "nnSAMTrainer", {"level_set_weight": 0.3, "curvature_weight": 2.5}),
        ("nnSAMLevelSetOnlyTrainer_curv0", "nnSAMLevelSetOnlyTrainer", {"curvature_weight": 0.0}),
        ("nnSAMTrainer_sam32_1epochs_1iters", "nnSAMTrainer", {"sam_size": 32, "epochs": 1, "iterations": 1}),
    ],
)
def test_options_are_read_in_any_order(name, base, options):
    assert parse_options(name) == (base, options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nnSAMTrainer_fast", "unknown option 'fast'; known options are _<N>epochs, _<M>iters, _sam<S>, _seed<K>"),
        ("nnSAMTrainer_", "unknown option ''"),
        ("nnSAMTrainer__2epochs", "unknown option ''"),
        ("nnSAMTrainer_epochs2", "unknown option 'epochs2'"),
        ("nnSAMTrainer_2Epochs", "unknown option '2Epochs'"),
        ("nnSAMTrainer_-2epochs", "unknown option '-2epochs'"),
        ("nnSAMTrainer_2epochs_3epochs", "'3epochs' twice"),
        ("nnSAMTrainer_0epochs", "'0epochs' has to be 1 to"),
        ("nnSAMTrainer_0iters", "'0iters' has to be 1 to"),
        ("nnSAMTrainer_sam0", "'sam0' has to be 32 to 4096"),
        ("nnSAMTrainer_sam8192", "'sam8192' has to be 32 to 4096"),
        ("nnSAMTrainer_sam100", "the SAM input size 100 is no multiple of 32"),
        ("nnSAMNoLevelSetTrainer_ls30", "sets a weight of level sets, but nnSAMNoLevelSetTrainer has none"),
        ("nnSAMTrainer_ls0.3", "unknown option 'ls0.3'"),
        (f"nnSAMTrainer_seed{2**32}", "has to be 0 to 4294967295"),
        ("nnSAMLevelSetOnlyTrainer_sam256", "sets the SAM input size, but nnSAMLevelSetOnlyTrainer has no SAM branch"),
    ],
)
def test_options_that_do_not_fit_are_named(name, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        trainer_class(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["nnSAMTrainers", "nnSAMBoxerTrainer_2epochs", "nnUNetTrainer", "", "_2epochs"])
def test_other_names_are_none_of_ours(name):
    with pytest.raises(LookupError, match="unknown trainer"):
        trainer_class(name)


@pytest.mark.parametrize("name", ["nnSAMTrainr", "nnsamTrainer", "nnSAMTrainr_2epochs"])
def test_nnunet_looking_for_a_misspelled_name_is_told_in_one_sentence(name, capsys):
    with pytest.raises(InputError, match=r"unknown trainer '.*'; this package has .*did you mean nnSAMTrainer"):
        recursive_find_trainer_class_by_name(name)
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer"):  # not ours to tell
        recursive_find_trainer_class_by_name("nnUNetTrainr")


@pytest.mark.parametrize("base", list(TRAINERS))
@pytest.mark.parametrize("options", ["", "_2epochs_10iters_seed1"])
def test_a_name_always_gives_the_same_class_which_can_be_pickled(base, options):
    cls = trainer_class(base + options)
    assert trainer_class(base + options) is cls
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert cls.__name__ == cls.__qualname__ == base + options
    assert cls.__module__.startswith("nnsam.training.")
    assert issubclass(cls, trainer_class(base))
    assert issubclass(cls, nnUNetTrainer)
    assert cls.__doc__ == trainer_class(base).__doc__


def test_options_become_attributes_and_leave_the_base_class_alone():
    cls = trainer_class("nnSAMTrainer_2epochs_10iters_sam256_seed1")
    assert {name: getattr(cls, name) for name in ALL} == ALL
    base = trainer_class("nnSAMTrainer")
    assert (base.epochs, base.iterations, base.sam_size, base.seed) == (None, None, 1024, None)


@pytest.mark.parametrize("base", list(TRAINERS))
def test_the_signature_is_nnunets(base):  # nnU-Net looks the names of a subclass's parameters up in its own variables
    expected = list(inspect.signature(nnUNetTrainer.__init__).parameters)
    assert list(inspect.signature(trainer_class(f"{base}_2epochs").__init__).parameters) == expected
    build = inspect.signature(trainer_class(base).build_network_architecture)
    assert list(build.parameters) == list(inspect.signature(nnUNetTrainer.build_network_architecture).parameters)


def test_epochs_and_iterations_reach_nnunets_settings(make_trainer, official):
    trainer = make_trainer("nnSAMTrainer_3epochs_11iters_sam32")
    settings = trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch
    assert settings == (3, 11, 2)
    assert make_trainer("nnSAMTrainer_1iters").num_val_iterations_per_epoch == 1
    plain = make_trainer("nnSAMTrainer")
    assert (plain.num_epochs, plain.num_iterations_per_epoch, plain.num_val_iterations_per_epoch) == (1000, 250, 50)


def test_the_module_has_no_other_attributes():
    assert trainer_names.nnSAMTrainer_7epochs is trainer_class("nnSAMTrainer_7epochs")
    assert not hasattr(trainer_names, "nnSAMTrainer_fast")
    assert not hasattr(trainer_names, "__path__")
