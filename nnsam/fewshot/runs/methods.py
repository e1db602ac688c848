"""The methods that a study can compare: trainers of nnU-Net and nnSAM, and networks of other libraries.

A trainer of nnSAM gets budget and seed by its name. nnU-Net's own trainer has neither, so that the method
`nnUNetTrainer` is trained as `nnSAMBaselineTrainer`, which adds nothing but these numbers to it (and computes in
bfloat16 on CPUs that do, as the others). The paper's other methods are trainers as well, with nnU-Net's data, loss and
schedule and a network of MONAI, see :mod:`nnsam.training.trainers`.
"""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from importlib.util import find_spec

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.runs.options import Budget
from nnsam.nnunet.trainer_names import TRAINERS, UnknownTrainerError, parse_options
from nnsam.support.installation import how_to_install
from nnsam.support.suggestions import did_you_mean

STOCK = "nnUNetTrainer"


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        name: as the user gives it; name of its folder in runs.
        trainer: name of the trainer without budget and seed.
        has_own_budget: it is a trainer that nnU-Net finds, with a budget of its own and no seed.
        needs_sam: whether it needs SAM's weights.
        needs_monai: whether its network is MONAI's.
        note: what the reader of a report should know.
    """

    name: str
    trainer: str
    has_own_budget: bool = False
    needs_sam: bool = False
    needs_monai: bool = False
    note: str = ""


def _ours(name: str, note: str, needs_sam: bool = False) -> Method:
    return Method(name, name, needs_sam=needs_sam, note=note)


_ENTRIES = (
    Method(
        STOCK,
        "nnSAMBaselineTrainer",
        note="nnU-Net's network, loss and training, run as nnSAMBaselineTrainer, which sets budget and seed and "
        "computes in bfloat16 on CPUs that do",
    ),
    _ours("nnSAMTrainer", "nnU-Net with the frozen MobileSAM encoder and the level-set head", needs_sam=True),
    _ours("nnSAMNoLevelSetTrainer", "nnU-Net with the frozen MobileSAM encoder, no level sets", needs_sam=True),
    _ours("nnSAMLevelSetOnlyTrainer", "nnU-Net with the level-set head, without SAM"),
    _ours("nnSAMRandomEncoderTrainer", "nnSAM with a frozen random encoder, to see what SAM's weights add"),
    _ours("nnSAMLegacyTrainer", "the network of the paper's published code", needs_sam=True),
    Method("unet", "nnSAMBasicUNetTrainer", needs_monai=True, note="MONAI's BasicUNet, not the paper's own U-Net"),
    Method(
        "swinunet",
        "nnSAMSwinUNETRTrainer",
        needs_monai=True,
        note="MONAI's SwinUNETR (2D) from scratch: a Swin encoder with a convolutional decoder; Swin-Unet's decoder is "
        "of Swin blocks, its encoder pre-trained",
    ),
    Method(
        "transunet",
        "nnSAMUNETRTrainer",
        needs_monai=True,
        note="MONAI's UNETR (2D ViT) from scratch; TransUNet has a ResNet in front of the ViT, both pre-trained",
    ),
    Method(
        "autosam",
        "nnSAMAutoSAMTrainer",
        needs_sam=True,
        note="frozen MobileSAM encoder with a small convolutional decoder; AutoSAM's has SAM ViT-H, its mask decoder "
        "and a trained prompt encoder",
    ),
)
METHODS = {method.name: method for method in _ENTRIES}
_TRAINERS = {method.trainer: method.name for method in _ENTRIES if method.trainer != method.name}
_NOT_TRAINERS = {name for name in TRAINERS if name.startswith("nnSAMBox")}


def find_method(name: str) -> Method:
    """Returns a method by its name: one of `METHODS`, one of nnSAM's with options, or a trainer that nnU-Net finds.

    Raises:
        InputError: unknown, or it cannot be compared here; says which ones there are.
    """
    if name in METHODS:
        return METHODS[name]
    base, *options = name.split("_")
    known = METHODS.get(base)
    if known is None and base in _TRAINERS:
        raise InputError(f"{name} is how {_TRAINERS[base]} is trained here; give {_TRAINERS[base]} as the method")
    if known is not None and base != STOCK:
        trainer = "_".join([known.trainer, *options])
        fixed = sorted({"epochs", "iterations", "seed"} & parse_options(trainer)[1].keys())
        if fixed:
            raise InputError(
                f"the method {name} sets its {', '.join(fixed)}, which --epochs, --iterations and --seeds do"
            )
        return replace(known, name=name, trainer=trainer)
    if name.isidentifier() and base not in _NOT_TRAINERS and _nnunet_finds(name):
        return Method(name, name, has_own_budget=True, note="a trainer with its own budget and no seed")
    raise InputError(
        f"the method {name!r} is unknown; known are {', '.join(METHODS)} and the trainers that nnU-Net finds"
        f"{did_you_mean(base, METHODS)}"
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
    if method.has_own_budget:
        return method.trainer
    return f"{method.trainer}{budget.suffix}_seed{seed}"


def recorded_budget(method: Method, budget: Budget) -> dict[str, int | None]:
    """The budget as run.json has it; None where the trainer decides."""
    known = not method.has_own_budget
    return {"epochs": budget.epochs if known else None, "iterations": budget.iterations if known else None}


def check_available(method: Method) -> None:
    """Raises SetupError where a method's library is not installed."""
    if method.needs_monai and find_spec("monai") is None:
        raise SetupError(f"the method {method.name} needs MONAI; {how_to_install('fewshot')}")


def _nnunet_finds(name: str) -> bool:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        with redirect_stdout(io.StringIO()):  # it tells where it looks
            return recursive_find_trainer_class_by_name(name) is not None
    except (RuntimeError, UnknownTrainerError):  # nnU-Net's way to say no, and ours
        return False
