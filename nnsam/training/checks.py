"""Checks before nnU-Net's trainer writes anything: versions, configuration, fold."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, NnsamError, SetupError
from nnsam.support.files import read_json


def release(text: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version, e.g. (2, 8, 1) of "2.8.1+cpu"."""
    numbers = []
    for part in text.split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def check_versions(version: Callable[[str], str] = version) -> None:
    """Raises SetupError where nnU-Net or torch is one that this package does not work with.

    Args:
        version: returns the version of an installed package, or raises PackageNotFoundError.
    """
    for package, found_fits, expected in (
        ("nnunetv2", lambda v: (2, 8, 1) <= v < (2, 9), ">=2.8.1,<2.9"),
        ("torch", lambda v: v >= (2, 5) and v[:2] != (2, 9), ">=2.5,!=2.9.*"),
    ):
        try:
            found = version(package)
        except PackageNotFoundError:
            raise SetupError(
                f'{package} is not installed; install it with: pip install "{package}{expected}"'
            ) from None
        if not found_fits(release(found)):
            raise SetupError(f'found {package} {found}, expected {expected}; run: pip install "{package}{expected}"')


def check_configuration(
    plans: dict[str, Any], configuration: str, trainer: str, *, sam: bool = True, min_stages: int = 1
) -> None:
    """Raises InputError unless the configuration is a 2D one without cascade, whose patch fits the encoder.

    Args:
        plans: content of nnU-Net's plans file.
        configuration: name of the configuration.
        trainer: name of the trainer, for messages.
        sam: the network has a SAM branch, for which patches must not be too small.
        min_stages: number of resolution stages that the trainer's network needs.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnsam.networks.mobile_sam import STRIDE

    known = plans["configurations"]
    if configuration not in known:
        raise InputError(f"the plans have no configuration {configuration!r}; they have {', '.join(sorted(known))}")
    settings = PlansManager(plans).get_configuration(configuration)
    patch = list(settings.patch_size)
    if len(patch) != 2:
        raise InputError(
            f"{trainer} works on 2D slices for now, but configuration {configuration!r} is {len(patch)}D: use 2d"
        )
    if settings.previous_stage_name is not None:
        raise InputError(f"{trainer} does not work in a cascade, but {configuration!r} has a previous stage: use 2d")
    if sam and min(patch) < STRIDE:
        raise InputError(
            f"the patch of configuration {configuration!r} is {patch[0]} x {patch[1]} pixels, smaller than the SAM "
            f"encoder's stride of {STRIDE}; use images of at least {STRIDE} x {STRIDE} pixels"
        )
    stages = len(settings.pool_op_kernel_sizes)
    if stages < min_stages:
        raise InputError(
            f"{trainer} needs a network of at least {min_stages} stages, and configuration {configuration!r} has "
            f"{stages}; use nnSAMTrainer, which fuses at any depth"
        )


def check_fold(fold: int | str, preprocessed: Path | None, dataset_json: dict[str, Any]) -> None:
    """Raises InputError where the fold does not exist; nnU-Net would go on with a random split instead.

    Args:
        fold: number, or "all".
        preprocessed: the data set's preprocessed folder; None skips the check.
        dataset_json: for the number of training cases, where there is no splits_final.json yet.
    """
    if fold == "all" or preprocessed is None:
        return
    splits_file = preprocessed / "splits_final.json"
    if splits_file.is_file():
        folds = len(read_json(splits_file, "expected nnU-Net's list of folds"))
        origin = f"{splits_file.name} of {preprocessed.name}"
    else:
        folds, origin = 5, "nnU-Net's default split"
        cases = int(dataset_json.get("numTraining", folds))
        if cases < folds:
            raise InputError(
                f"{preprocessed.name} has {cases} training cases, too few for nnU-Net's default split into {folds} "
                f"folds; use fold 'all', or write your own splits_final.json"
            )
    if not 0 <= int(fold) < folds:
        raise InputError(f"fold {fold} does not exist: {origin} has folds 0 to {folds - 1}; use one of them, or 'all'")


class _OneSentence:
    """An exception hook that prints this package's errors as a sentence and leaves all others to the hook before."""

    def __init__(self, before: Callable[..., object]):
        self._before = before

    def __call__(self, kind, error, trace) -> None:
        if issubclass(kind, NnsamError) and not os.environ.get("NNSAM_TRACEBACK"):
            print(f"nnsam: {error}", file=sys.stderr)  # noqa: T201
        else:
            self._before(kind, error, trace)


def install() -> None:
    """Installs the hook once; set ``NNSAM_TRACEBACK`` to see stack traces.

    Called when nnU-Net looks up one of our trainers, that is in the processes of nnU-Net's commands. The exceptions
    themselves are ordinary ones: code that calls nnU-Net as a library can catch them.
    """
    if not isinstance(sys.excepthook, _OneSentence):
        sys.excepthook = _OneSentence(sys.excepthook)
