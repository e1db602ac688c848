"""Trainer names that carry options: ``nnSAM<Variant>Trainer`` and ``_<N>epochs``, ``_sam<S>``, ..., see `_OPTIONS`.

nnU-Net stores the trainer's name in checkpoints and rebuilds the network from it on any machine. Options in the name
therefore need no environment variable, no configuration file, and cannot be forgotten.
"""

import importlib
import re
from functools import cache
from typing import TYPE_CHECKING

from nnsam.errors import InputError
from nnsam.support.suggestions import did_you_mean
from nnsam.support.text import shown

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# Where the classes made here live: pickles hold a class's module and name, and its __getattr__ finds it again.
HOME = "nnsam.training.trainer_names"

# name -> the module that defines it; imported when a trainer is asked for, so that this one needs no PyTorch.
TRAINERS = {
    "nnSAMTrainer": "nnsam.training.sam_trainer",
    "nnSAMNoLevelSetTrainer": "nnsam.training.trainers",
    "nnSAMLevelSetOnlyTrainer": "nnsam.training.trainers",
    "nnSAMRandomEncoderTrainer": "nnsam.training.trainers",
    "nnSAMBaselineTrainer": "nnsam.training.trainers",
    "nnSAMLegacyTrainer": "nnsam.training.trainers",
    "nnSAMBasicUNetTrainer": "nnsam.training.trainers",
    "nnSAMSwinUNETRTrainer": "nnsam.training.trainers",
    "nnSAMUNETRTrainer": "nnsam.training.trainers",
    "nnSAMAutoSAMTrainer": "nnsam.training.trainers",
    "nnSAMBoxTrainer": "nnsam.training.box_trainer",
    "nnSAMBoxFastTrainer": "nnsam.training.box_trainer",
    "nnSAMBoxHybridTrainer": "nnsam.training.box_trainer",
}

# option -> (pattern, attribute of the trainer, smallest and largest value); numpy takes seeds of 32 bits.
# The weights of level sets and curvature are in hundredths, since names have no points.
_HUNDREDTHS = ("level_set_weight", "curvature_weight")
_OPTIONS = {
    "<N>epochs": (re.compile(r"(\d+)epochs"), "epochs", 1, 10**9),
    "<M>iters": (re.compile(r"(\d+)iters"), "iterations", 1, 10**9),
    "sam<S>": (re.compile(r"sam(\d+)"), "sam_size", 32, 4096),
    "seed<K>": (re.compile(r"seed(\d+)"), "seed", 0, 2**32 - 1),
    "ls<P>": (re.compile(r"ls(\d+)"), "level_set_weight", 0, 10**6),
    "curv<P>": (re.compile(r"curv(\d+)"), "curvature_weight", 0, 10**6),
}


class UnknownTrainerError(InputError, LookupError):
    """No trainer of this package has a name."""


def parse_options(name: str) -> tuple[str, dict[str, int | float]]:
    """Splits a trainer's name into the name without options and the options' values.

    Raises:
        InputError: an option is unknown, given twice, or has an impossible value.

    Example:
        >>> parse_options("nnSAMTrainer_2epochs_sam256")
        ('nnSAMTrainer', {'epochs': 2, 'sam_size': 256})
        >>> parse_options("nnSAMLevelSetOnlyTrainer_ls30_curv0")
        ('nnSAMLevelSetOnlyTrainer', {'level_set_weight': 0.3, 'curvature_weight': 0.0})
    """
    base, *words = name.split("_")
    values: dict[str, int | float] = {}
    for word in words:
        for pattern, attribute, smallest, largest in _OPTIONS.values():
            match = pattern.fullmatch(word)
            if match is None:
                continue
            if attribute in values:
                raise InputError(f"trainer name {shown(name)} gives option {shown(word)} twice; give it once")
            value = int(match[1])
            if not smallest <= value <= largest:
                raise InputError(f"trainer name {shown(name)}: option {shown(word)} has to be {smallest} to {largest}")
            values[attribute] = value / 100 if attribute in _HUNDREDTHS else value
            break
        else:
            raise InputError(
                f"trainer name {shown(name)} has the unknown option {shown(word)}; "
                f"known options are {', '.join('_' + option for option in _OPTIONS)}"
            )
    if values.get("sam_size", 32) % 32:
        raise InputError(f"trainer name {shown(name)}: the SAM input size {values['sam_size']} is no multiple of 32")
    return base, values


@cache
def trainer_class(name: str) -> "type[nnUNetTrainer]":
    """Returns the trainer class of a name, made on the fly where the name has options; always the same object.

    Raises:
        UnknownTrainerError: no trainer of this package has that name; a LookupError, too.
        InputError: a trainer of this package, but with options that do not fit.
    """
    base_name = name.split("_")[0]
    if base_name not in TRAINERS:
        raise UnknownTrainerError(
            f"unknown trainer {shown(name)}; this package has {', '.join(TRAINERS)}{did_you_mean(base_name, TRAINERS)}"
        )
    base_name, options = parse_options(name)
    base = getattr(importlib.import_module(TRAINERS[base_name]), base_name)
    if not options:
        return base
    if "sam_size" in options and not base.use_sam:
        raise InputError(f"trainer name {shown(name)} sets the SAM input size, but {base_name} has no SAM branch")
    if set(_HUNDREDTHS) & options.keys() and not base.use_level_sets:
        raise InputError(f"trainer name {shown(name)} sets a weight of level sets, but {base_name} has none")
    return type(name, (base,), {"__module__": HOME, "__doc__": base.__doc__, **options})
