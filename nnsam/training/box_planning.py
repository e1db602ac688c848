"""Plans box-prompt training for a raw data set: checks, fingerprint, plans file."""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from nnsam.errors import InputError, SetupError
from nnsam.networks.box_unet import MODELS, box_architecture
from nnsam.prompts.encoding import check_encoding

PLANS_NAME = "nnSAMBoxPlans"
# Stock et al., Table 2, for the full model; the small one is for laptops.
BATCH_SIZE: Mapping[str, int] = {"full": 51, "small": 16}


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


class BoxPlanner(ExperimentPlanner):
    """nnU-Net's planner, with network, patch, batch and z-score normalisation given instead of derived.

    Everything else, such as the target spacing, the image reader and the resampling, is nnU-Net's decision.

    Args:
        dataset: name or number of a raw data set whose fingerprint has been extracted.
        model: key of :data:`nnsam.networks.box_unet.MODELS`.
        prompt: prompt encoding.
        batch_size: images per training step.
        patch_size: (H, W), multiples of the network's stride; the model's own by default.
        plans_name: name of the plans.
    """

    def __init__(
        self,
        dataset: str | int,
        model: str = "full",
        prompt: str = "binary",
        batch_size: int | None = None,
        patch_size: tuple[int, int] | None = None,
        plans_name: str = PLANS_NAME,
    ):
        self.model = model
        self.architecture = box_architecture(model)
        self.prompt = check_encoding(prompt)
        self.batch_size = BATCH_SIZE[model] if batch_size is None else batch_size
        self.patch_size = MODELS[model][2] if patch_size is None else patch_size
        stride = 2 ** (len(self.architecture["arch_kwargs"]["strides"]) - 1)
        if any(side % stride or side < 2 * stride for side in self.patch_size):
            raise InputError(
                f"the patch is {self.patch_size[0]} x {self.patch_size[1]} pixels; the {model} model needs sides that "
                f"are multiples of {stride}, at least {2 * stride}"
            )
        if self.batch_size < 1:
            raise InputError(f"the batch size is {self.batch_size}; expected at least 1")
        super().__init__(dataset, plans_name=plans_name)

    def get_plans_for_configuration(self, spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache):
        """Returns the 2D configuration; for 3D ones, which nnU-Net also asks for, a stand-in that is dropped."""
        if len(spacing) == 3:
            return {"patch_size": list(median_shape), "spacing": np.array(spacing)}
        data, data_kwargs, labels, labels_kwargs = self.determine_resampling()
        probabilities, probabilities_kwargs = self.determine_segmentation_softmax_export_fn()
        channels = len(self.dataset_json["channel_names"])
        return {
            "data_identifier": data_identifier,
            "preprocessor_name": self.preprocessor_name,
            "batch_size": self.batch_size,
            "patch_size": list(self.patch_size),
            "median_image_size_in_voxels": [float(side) for side in median_shape],
            "spacing": [float(value) for value in spacing],
            "normalization_schemes": ["ZScoreNormalization"] * channels,
            "use_mask_for_norm": [False] * channels,
            "resampling_fn_data": data.__name__,
            "resampling_fn_seg": labels.__name__,
            "resampling_fn_data_kwargs": data_kwargs,
            "resampling_fn_seg_kwargs": labels_kwargs,
            "resampling_fn_probabilities": probabilities.__name__,
            "resampling_fn_probabilities_kwargs": probabilities_kwargs,
            "architecture": self.architecture,
            "nnsam_box": {"model": self.model, "prompt": self.prompt},
        }

    def save_plans(self, plans: dict) -> None:
        """Saves the 2D configuration only: the network is 2D."""
        plans["configurations"] = {"2d": plans["configurations"]["2d"]}
        super().save_plans(plans)


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
