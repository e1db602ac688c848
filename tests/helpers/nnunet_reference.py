"""nnU-Net itself, as the reference for the runtime's pipeline: small plans, its preprocessor, predictor and export."""

import contextlib
import copy
import io

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from helpers.plans import make_plans

STATISTICS = {"mean": 90.25, "std": 41.125, "percentile_00_5": 3.5, "percentile_99_5": 180.75}
SPLINE = "resample_data_or_seg_to_shape"


def plans_with(
    spacing,
    patch_size,
    schemes=("ZScoreNormalization",),
    masks=None,
    transpose=(0, 1, 2),
    function=SPLINE,
    data_arguments=None,
    result_arguments=None,
):
    """Plans of one configuration, "tested"."""
    plans = make_plans()
    default = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None} if function == SPLINE else {}
    plans["configurations"]["tested"] = {
        **plans["configurations"]["2d"],
        "patch_size": list(patch_size),
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": list(masks or [False] * len(schemes)),
        "resampling_fn_data": function,
        "resampling_fn_data_kwargs": default if data_arguments is None else data_arguments,
        "resampling_fn_seg": "no_resampling_hack",
        "resampling_fn_seg_kwargs": {},
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": {**default, **({"order": 1} if default else {})}
        if result_arguments is None
        else result_arguments,
    }
    plans["transpose_forward"] = list(transpose)
    plans["transpose_backward"] = [int(axis) for axis in np.argsort(transpose)]
    plans["foreground_intensity_properties_per_channel"] = {
        str(channel): {key: value + channel for key, value in STATISTICS.items()} for channel in range(len(schemes))
    }
    return plans


def dataset_with(labels, order=None, channels=1):
    names = {str(channel): f"channel {channel}" for channel in range(channels)}
    dataset = {"channel_names": names, "labels": labels, "file_ending": ".nii.gz", "numTraining": 1}
    return dataset if order is None else {**dataset, "regions_class_order": order}


def manifest_of(plans, dataset, mirror_axes=None):
    """The sections of `bundle.json` that the pipeline reads."""
    manager = PlansManager(copy.deepcopy(plans))
    labels = manager.get_label_manager(dataset)
    settings = plans["configurations"]["tested"]
    statistics = plans["foreground_intensity_properties_per_channel"]
    return {
        "preprocessing": {
            "transpose_forward": plans["transpose_forward"],
            "transpose_backward": plans["transpose_backward"],
            "spacing": settings["spacing"],
            "normalization": [
                {"scheme": scheme, "use_mask": mask, "statistics": statistics[str(channel)]}
                for channel, (scheme, mask) in enumerate(
                    zip(settings["normalization_schemes"], settings["use_mask_for_norm"], strict=True)
                )
            ],
            "resampling": {
                what: {"function": settings[f"resampling_fn_{what}"], **settings[f"resampling_fn_{what}_kwargs"]}
                for what in ("data", "probabilities")
            },
        },
        "tiling": {
            "patch_size": settings["patch_size"],
            "step": 0.5,
            "gaussian_sigma": 0.125,
            "mirror_axes": mirror_axes,
        },
        "labels": {
            "names": dataset["labels"],
            "regions_class_order": dataset.get("regions_class_order"),
            "has_regions": labels.has_regions,
            "outputs": labels.num_segmentation_heads,
            "foreground": [int(label) for label in labels.foreground_labels],
        },
    }


class TinyNetworks:
    """A random convolution per fold, called as the runtime calls its networks, one patch after the other."""

    def __init__(self, channels, outputs, dimensions, folds=1, scale=3.0):
        torch.manual_seed(channels + 10 * outputs + 100 * dimensions)
        kind = torch.nn.Conv2d if dimensions == 2 else torch.nn.Conv3d
        self.modules = [
            torch.nn.Sequential(kind(channels, 4, 3, padding=1), torch.nn.LeakyReLU(), kind(4, outputs, 3, padding=1))
            for _ in range(folds)
        ]
        for module in self.modules:
            module.requires_grad_(False)[-1].weight *= scale
        self.outputs = outputs
        self.folds = [str(fold) for fold in range(folds)]
        self.batches = []
        self.manifest, self.precision, self.note = {}, "f32", ""

    def of(self, manifest):
        """This object, as the networks of the model that the manifest describes."""
        self.manifest = manifest
        return self

    @property
    def parameters(self):
        return [copy.deepcopy(module.state_dict()) for module in self.modules]

    def stream(self, fold, patches):
        for batch in patches:
            assert batch.dtype == np.float32
            assert batch.flags.c_contiguous
            self.batches.append(len(batch))
            yield np.concatenate([self.modules[fold](torch.from_numpy(patch[None])).numpy() for patch in batch])


def nnunet_preprocess(image, spacing, plans, dataset):
    manager = PlansManager(copy.deepcopy(plans))
    properties = {"spacing": list(spacing)}
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image, None, properties, manager, manager.get_configuration("tested"), dataset
    )
    return data, properties


def nnunet_logits(data, networks, plans, dataset, mirror_axes=None, step=0.5):
    manager = PlansManager(copy.deepcopy(plans))
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(
            tile_step_size=step,
            use_mirroring=mirror_axes is not None,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
    predictor.manual_initialization(
        copy.deepcopy(networks.modules[0]),
        manager,
        manager.get_configuration("tested"),
        networks.parameters,
        dataset,
        "none",
        mirror_axes,
    )
    return predictor.predict_logits_from_preprocessed_data(torch.from_numpy(np.ascontiguousarray(data)))


def nnunet_export(logits, properties, plans, dataset, probabilities=False):
    manager = PlansManager(copy.deepcopy(plans))
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.clone(),
        manager,
        manager.get_configuration("tested"),
        manager.get_label_manager(dataset),
        properties,
        return_probabilities=probabilities,
        num_threads_torch=1,
    )


def random_image(generator, shape, margin=0, colours=False):
    """Smooth noise with holes, (C, z, y, x), and zeros around it."""
    image = generator.normal(100, 40, shape)
    if colours:
        image = np.clip(image, 0, 255).round()
    image[:, generator.random(shape[1:]) < 0.05] = 0
    if margin:
        kept = np.zeros(shape[1:], dtype=bool)
        kept[tuple(slice(min(margin, size - 1), size - (size > 2 * margin)) for size in shape[1:])] = True
        image[:, ~kept] = 0
    return image.astype(np.float32)
