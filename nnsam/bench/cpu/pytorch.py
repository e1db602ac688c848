"""The published box network with random weights as a model folder of nnU-Net, which `nnsam segment` runs in PyTorch."""

import json
from pathlib import Path
from typing import Any

from nnsam.bench.cpu.model import CHANNELS, random_network


def random_model_folder(folder: Path, model: str = "full") -> Path:
    """Writes plans, data set and checkpoint as training leaves them.

    Args:
        folder: to write into; made if absent.
        model: see :func:`nnsam.bench.cpu.model.random_network`.

    Returns:
        The folder.
    """
    import torch

    plans, dataset = _plans(model), _dataset()
    fold = folder / "fold_0"
    fold.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": random_network(model).state_dict(),
        "trainer_name": "nnSAMBoxTrainer",
        "init_args": {"plans": plans, "configuration": "2d", "fold": 0, "dataset_json": dataset},
        "inference_allowed_mirroring_axes": (0, 1),
    }
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    return folder


def _dataset() -> dict[str, Any]:
    return {
        "channel_names": {str(index): "RGB"[index] for index in range(CHANNELS)},
        "labels": {"background": 0, "object": 1},
        "numTraining": 0,
        "file_ending": ".png",
    }


def _plans(model: str) -> dict[str, Any]:
    from nnsam.networks.box_unet import MODELS, box_architecture

    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    patch_size = list(MODELS[model][2])
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch_size,
        "median_image_size_in_voxels": patch_size,
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * CHANNELS,
        "use_mask_for_norm": [False] * CHANNELS,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        **{f"resampling_fn_{what}_kwargs": resampling for what in ("data", "seg", "probabilities")},
        "architecture": box_architecture(model),
        "nnsam_box": {"model": model, "prompt": "binary"},
    }
    return {
        "dataset_name": "none: random weights",
        "plans_name": "nnSAMBoxPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, *patch_size],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "BoxPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }
