"""Plans box-prompt training for a raw data set: checks, fingerprint, plans file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.nnunet.commands import call_in_fresh_interpreter
from nnsam.support.files import read_json
from nnsam.support.text import shown

PLANS_NAME = "nnSAMBoxPlans"
# Data sets that a message names at most.
_NAMED = 3


def box_settings(plans: Mapping[str, Any], configuration: str = "2d") -> dict[str, Any]:
    """Returns the entry `nnsam_box` of a configuration: model and prompt encoding.

    Raises:
        InputError: the plans are not those of `nnsam plan-box`.
    """
    settings = plans["configurations"].get(configuration, {}).get("nnsam_box")
    if settings is None:
        raise InputError(
            f"configuration {configuration!r} of the plans {plans.get('plans_name')!r} was not made for box prompts; "
            f"run `nnsam plan-box` and train with: 2d -p {PLANS_NAME}"
        )
    return settings


def plan_box(
    dataset: str | int,
    *,
    model: str = "full",
    prompt: str = "binary",
    batch_size: int | None = None,
    patch_size: tuple[int, int] | None = None,
    plans_name: str = PLANS_NAME,
    processes: int = 2,
) -> dict[str, Any]:
    """Writes ``<plans_name>.json`` into the data set's preprocessed folder.

    The options are those of :class:`nnsam.training.box_planner.BoxPlanner`, which runs in a fresh Python interpreter.

    Returns:
        dataset, file, model, prompt, parameters, patch_size, batch_size.

    Raises:
        SetupError: nnU-Net's folders are not set.
        InputError: no such data set, or one without usable files or options.
    """
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        if not os.environ.get(variable):
            raise SetupError(
                f"the environment variable {variable} is not set, and nnU-Net keeps its data there; export it first, "
                f"e.g. export {variable}=FOLDER"
            )
    if batch_size is not None and batch_size < 1:
        raise InputError(f"the batch size is {batch_size}; expected at least 1")
    name = _dataset_name(dataset)
    _check_fits(Path(os.environ["nnUNet_raw"], name))
    return call_in_fresh_interpreter(
        "nnsam.training.box_planner:extract_and_plan",
        dataset=name,
        model=model,
        prompt=prompt,
        batch_size=batch_size,
        patch_size=patch_size,
        plans_name=plans_name,
        processes=processes,
    )


def _dataset_name(dataset: str | int) -> str:
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    text = str(dataset)
    raw = Path(os.environ["nnUNet_raw"])
    try:
        name = maybe_convert_to_dataset_name(int(text) if text.isdigit() else text)
    except (RuntimeError, OSError):  # of nnU-Net's folders, where one does not exist
        name = ""
    if not name or not (raw / name).is_dir():
        there = sorted(path.name for path in raw.glob("Dataset*") if path.is_dir())
        some = ", ".join(there[:_NAMED]) + (", ..." if len(there) > _NAMED else "")
        raise InputError(
            f"there is no data set {shown(text)} in {raw} (nnUNet_raw); it has {some or 'none'}: give one that is "
            "there, or make it with `nnsam convert`"
        )
    if not (raw / name / "dataset.json").is_file():
        raise InputError(f"{raw / name} has no dataset.json; expected a raw nnU-Net data set, so add it")
    return name


def _check_fits(raw: Path) -> None:
    channels = read_json(raw / "dataset.json", "expected nnU-Net's dataset.json").get("channel_names", {})
    if len(channels) not in (1, 3):
        raise InputError(
            f"{raw.name} has {len(channels)} image channels; box prompts work on grey (1) or RGB (3) images"
        )
