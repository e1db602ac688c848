"""Synthetic nnU-Net plans: the layout that nnU-Net 2.8 writes, with networks small enough for fast tests."""

import copy

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESENC = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}


def architecture(network: str = PLAIN, stages: int = 5, features: int = 4, dimensions: int = 2) -> dict:
    """Features double up to four times the first stage's; ResEnc as nnU-Net's presets, but one block per stage."""
    sizes = {"n_conv_per_stage": [1] * stages} if network == PLAIN else {"n_blocks_per_stage": [1] * stages}
    return {
        "network_class_name": network,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(features * 2**index, 4 * features) for index in range(stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[3] * dimensions] * stages,
            "strides": [[1] * dimensions] + [[2] * dimensions] * (stages - 1),
            **sizes,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def make_plans(
    network: str = PLAIN,
    stages: int = 5,
    features: int = 4,
    patch_size: tuple[int, ...] = (64, 64),
    name: str = "Dataset901_Toy",
) -> dict:
    """Plans with the configurations 2d, 3d_fullres and 2d_cascade (which has a previous stage)."""
    resampling = "resample_data_or_seg_to_shape"
    flat = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": [float(size) for size in patch_size],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resampling,
        "resampling_fn_seg": resampling,
        "resampling_fn_data_kwargs": RESAMPLING,
        "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True},
        "resampling_fn_probabilities": resampling,
        "resampling_fn_probabilities_kwargs": RESAMPLING,
        "architecture": architecture(network, stages, features),
        "batch_dice": True,
    }
    solid = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "patch_size": [32, 64, 64],
        "spacing": [1.0, 1.0, 1.0],
        "architecture": architecture(network, stages, features, dimensions=3),
    }
    return {
        "dataset_name": name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [999.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, *patch_size],
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "2d": flat,
            "3d_fullres": {"inherits_from": "2d", **solid},
            "2d_cascade": {"inherits_from": "2d", "previous_stage": "2d"},
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {"max": 255.0, "mean": 100.0, "median": 100.0, "min": 0.0, "percentile_00_5": 0.0}
            | {"percentile_99_5": 255.0, "std": 50.0}
        },
        "continue_training": False,
    }


def dataset_json(classes: int = 5, channels: int = 1, cases: int = 5) -> dict:
    return {
        "channel_names": {str(index): f"channel {index}" for index in range(channels)},
        "labels": {"background": 0, **{f"class {value}": value for value in range(1, classes + 1)}},
        "numTraining": cases,
        "file_ending": ".png",
    }


def build_with(trainer: type, plans: dict, channels: int = 1, outputs: int = 3, deep_supervision: bool = True):
    """Builds a trainer's network from the class alone, as nnU-Net does at prediction."""
    manager = PlansManager(copy.deepcopy(plans))
    configuration = manager.get_configuration("2d")
    return trainer.build_network_architecture(manager, configuration, channels, outputs, deep_supervision)
