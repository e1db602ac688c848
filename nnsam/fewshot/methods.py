"""The methods that a study can compare: trainers of nnU-Net and nnSAM, and networks of other libraries.

A trainer of nnSAM gets budget and seed by its name. nnU-Net's own trainer has neither, so that the method
`nnUNetTrainer` is trained as `nnSAMBaselineTrainer`, which adds nothing but these numbers to it.

Baselines live in :mod:`nnsam.fewshot.baselines`, which has the functions of :class:`BaselineModule`.
"""

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.budget import Budget
from nnsam.fewshot.run_key import RunKey
from nnsam.fewshot.run_options import RunOptions
from nnsam.training.trainer_names import TRAINERS, parse_options

NNUNET, OTHER_TRAINER, BASELINE = "nnunet", "other nnU-Net trainer", "baseline"
STOCK = "nnUNetTrainer"
_STOCK_AS = "nnSAMBaselineTrainer"


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: as the user gives it; name of its folder in runs.
        kind: `NNUNET`: budget and seed go into the trainer's name; `OTHER_TRAINER`: a trainer that nnU-Net finds, with
            a budget of its own; `BASELINE`: a network of another library.
        needs_sam: whether it needs SAM's weights.
        note: what the reader of a report should know.
    """

    name: str
    kind: str
    needs_sam: bool = False
    note: str = ""


class BaselineModule(Protocol):
    """What :mod:`nnsam.fewshot.baselines` offers; called in a process of its own, standard output goes to the log."""

    def train(self, experiment: Path, key: RunKey, options: RunOptions) -> None:
        """Trains on the subset's preprocessed data within the budget; goes on where an earlier call was killed."""

    def predict(self, experiment: Path, key: RunKey, options: RunOptions, images: Path, output: Path) -> None:
        """Writes a label map (case name and file ending of the data set) for each case of a folder of images."""

    def is_trained(self, experiment: Path, key: RunKey) -> bool:
        """Whether the training is finished."""


_ENTRIES = (
    Method(STOCK, NNUNET, note="nnU-Net's network, loss and training; its budget and seed are set by a subclass"),
    Method("nnSAMTrainer", NNUNET, True, "nnU-Net with the frozen MobileSAM encoder and the level-set head"),
    Method("nnSAMNoLevelSetTrainer", NNUNET, True, "nnU-Net with the frozen MobileSAM encoder, no level sets"),
    Method("nnSAMLevelSetOnlyTrainer", NNUNET, False, "nnU-Net with the level-set head, without SAM"),
    Method(
        "nnSAMRandomEncoderTrainer", NNUNET, False, "nnSAM with a frozen random encoder: what do SAM's weights add?"
    ),
    Method("nnSAMLegacyTrainer", NNUNET, True, "the network of the paper's published code"),
    Method("unet", BASELINE, False, "MONAI's BasicUNet, not the paper's own U-Net"),
    Method(
        "swinunet",
        BASELINE,
        False,
        "MONAI's SwinUNETR (2D): a Swin encoder with a convolutional decoder; Swin-Unet's is of Swin blocks",
    ),
    Method("transunet", BASELINE, False, "MONAI's UNETR (2D ViT); TransUNet has a ResNet in front of the ViT"),
    Method(
        "autosam",
        BASELINE,
        True,
        "frozen MobileSAM encoder with a small convolutional decoder; AutoSAM's has SAM ViT-H",
    ),
)
METHODS = {method.name: method for method in _ENTRIES}
_NOT_TRAINERS = {name for name in TRAINERS if name.startswith("nnSAMBox")}


def find_method(name: str) -> Method:
    """Returns a method by its name: one of `METHODS`, one of nnSAM's with options, or a trainer that nnU-Net finds.

    Raises:
        InputError: unknown, or it cannot be compared here; says which ones there are.
    """
    if name in METHODS:
        return METHODS[name]
    base = name.split("_")[0]
    if base == _STOCK_AS:
        raise InputError(f"{name} is how {STOCK} is trained here; give {STOCK} as the method")
    if base in METHODS and METHODS[base].kind == NNUNET and base != STOCK:
        _, options = parse_options(name)
        fixed = sorted({"epochs", "iterations", "seed"} & options.keys())
        if fixed:
            raise InputError(
                f"the method {name} sets its {', '.join(fixed)}, which --epochs, --iterations and --seeds do"
            )
        known = METHODS[base]
        return Method(name, known.kind, known.needs_sam, known.note)
    if name.isidentifier() and base not in _NOT_TRAINERS and _nnunet_finds(name):
        return Method(name, OTHER_TRAINER, note="a trainer with its own budget and no seed")
    raise InputError(
        f"the method {name!r} is unknown; known are {', '.join(METHODS)} and the trainers that nnU-Net finds"
    )


def find_methods(names: list[str]) -> list[Method]:
    """Returns several methods; InputError where one is named twice or unknown."""
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"the method {name} is given {names.count(name)} times; give each once")
    return [find_method(name) for name in names]


def trainer_name(method: Method, budget: Budget, seed: int) -> str:
    """Name of the trainer that nnUNetv2_train gets, with budget and seed.

    Example:
        >>> trainer_name(find_method("nnUNetTrainer"), Budget(4, 40), 1)
        'nnSAMBaselineTrainer_4epochs_40iters_seed1'
    """
    if method.kind == OTHER_TRAINER:
        return method.name
    base = _STOCK_AS if method.name == STOCK else method.name
    return f"{base}{budget.suffix}_seed{seed}"


def recorded_budget(method: Method, budget: Budget) -> dict[str, int | None]:
    """The budget as run.json has it; None where the trainer decides."""
    known = method.kind != OTHER_TRAINER
    return {"epochs": budget.epochs if known else None, "iterations": budget.iterations if known else None}


def load_baselines() -> BaselineModule:
    """Imports the module of the baselines.

    Raises:
        SetupError: there is no such module, or MONAI is not installed.
    """
    check_available(METHODS["unet"])
    return cast(BaselineModule, importlib.import_module("nnsam.fewshot.baselines"))


def check_available(method: Method) -> None:
    """Raises SetupError where a baseline is not there, or its library is not installed."""
    if method.kind == BASELINE and find_spec("nnsam.fewshot.baselines") is None:
        raise SetupError(
            f"the method {method.name} is not part of this version of nnsam yet; choose nnUNetTrainer, or one of "
            "nnsam's trainers"
        )
    if method.kind == BASELINE and find_spec("monai") is None:
        raise SetupError(f'the method {method.name} needs MONAI; install it with: pip install "nnsam[fewshot]"')


def _nnunet_finds(name: str) -> bool:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        return recursive_find_trainer_class_by_name(name) is not None
    except RuntimeError:  # nnU-Net's way to say no
        return False
