"""nnU-Net's planner for box-prompt training, and the planning that runs in an interpreter of its own."""

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints

from nnsam.errors import InputError
from nnsam.networks.box_unet import MODELS, box_architecture, build_box_unet
from nnsam.prompts.encoding import check_encoding
from nnsam.training.box_planning import PLANS_NAME

# Stock et al., Table 2, for the full model; the small one is for laptops.
BATCH_SIZE: Mapping[str, int] = {"full": 51, "small": 16}


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
        self.patch_size = checked_patch(model, patch_size)
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


def checked_patch(model: str, patch_size: Sequence[int] | None) -> tuple[int, int]:
    """Returns the patch (H, W) in pixels, the model's own for None.

    Raises:
        InputError: sides that the model cannot halve as often as it does.
    """
    height, width = MODELS[model][2] if patch_size is None else patch_size
    stride = 2 ** (len(box_architecture(model)["arch_kwargs"]["strides"]) - 1)
    if any(side % stride or side < 2 * stride for side in (height, width)):
        raise InputError(
            f"the patch is {height} x {width} pixels; the {model} model needs sides that are multiples of {stride}, at "
            f"least {2 * stride}"
        )
    return height, width


def extract_and_plan(
    dataset: str,
    model: str,
    prompt: str,
    batch_size: int | None,
    patch_size: Sequence[int] | None,
    plans_name: str,
    processes: int,
) -> dict[str, Any]:
    """Extracts the fingerprint where it is missing, and plans; called by :func:`nnsam.training.box_planning.plan_box`.

    nnU-Net starts processes here, so that the caller must not have threads.
    """
    patch, _ = checked_patch(model, patch_size), check_encoding(prompt)  # before the minutes of a fingerprint
    fingerprint = Path(os.environ["nnUNet_preprocessed"], dataset, "dataset_fingerprint.json")
    if not fingerprint.is_file():
        extract_fingerprints([int(dataset[7:10])], num_processes=processes)
    planner = BoxPlanner(dataset, model, prompt, batch_size, patch, plans_name)
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints whole dictionaries
        plans = planner.plan_experiment()
    channels = len(planner.dataset_json["channel_names"])
    network = build_box_unet(model, image_channels=channels, prompt=prompt)
    return {
        "dataset": dataset,
        "file": str(fingerprint.with_name(f"{plans_name}.json")),
        "model": model,
        "prompt": prompt,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "patch_size": plans["configurations"]["2d"]["patch_size"],
        "batch_size": plans["configurations"]["2d"]["batch_size"],
    }
