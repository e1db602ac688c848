"""Plans box-prompt training for a raw data set: checks, fingerprint, plans file."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError


def plan_box(
    dataset: str | int,
    *,
    model: str = "full",
    prompt: str = "binary",
    batch_size: int | None = None,
    patch_size: tuple[int, int] | None = None,
    plans_name: str = "nnSAMBoxPlans",
    processes: int = 2,
) -> dict[str, Any]:
    """Writes ``<plans_name>.json`` into the data set's preprocessed folder; see :class:`BoxPlanner` for the options.

    Returns:
        dataset, file, model, prompt, parameters, patch_size, batch_size.

    Raises:
        SetupError: nnU-Net's folders are not set.
        InputError: no such data set, or one without usable files or options.
    """
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        if not os.environ.get(variable):
            raise SetupError(f"the environment variable {variable} is not set; nnU-Net keeps its data there")
    name = _dataset_name(dataset)
    from nnsam.networks.box_unet import build_box_unet
    from nnsam.training.box_plans import BoxPlanner

    _check_fits(Path(os.environ["nnUNet_raw"], name))
    fingerprint = Path(os.environ["nnUNet_preprocessed"], name, "dataset_fingerprint.json")
    if not fingerprint.is_file():
        from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints

        extract_fingerprints([int(name[7:10])], num_processes=processes)
    planner = BoxPlanner(name, model, prompt, batch_size, patch_size, plans_name)
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints whole dictionaries
        plans = planner.plan_experiment()
    channels = len(planner.dataset_json["channel_names"])
    network = build_box_unet(model, image_channels=channels, prompt=prompt)
    return {
        "dataset": name,
        "file": str(fingerprint.with_name(f"{plans_name}.json")),
        "model": model,
        "prompt": prompt,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "patch_size": plans["configurations"]["2d"]["patch_size"],
        "batch_size": plans["configurations"]["2d"]["batch_size"],
    }


def _dataset_name(dataset: str | int) -> str:
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    text = str(dataset)
    try:
        name = maybe_convert_to_dataset_name(int(text) if text.isdigit() else text)
    except RuntimeError as error:
        raise InputError(f"data set {dataset} was not found in {os.environ['nnUNet_raw']} ({error})") from error
    if not Path(os.environ["nnUNet_raw"], name, "dataset.json").is_file():
        raise InputError(f"data set {name} was not found in {os.environ['nnUNet_raw']}, or it has no dataset.json")
    return name


def _check_fits(raw: Path) -> None:
    import json

    channels = json.loads((raw / "dataset.json").read_text()).get("channel_names", {})
    if len(channels) not in (1, 3):
        raise InputError(
            f"{raw.name} has {len(channels)} image channels; box prompts work on grey (1) or RGB (3) images"
        )
