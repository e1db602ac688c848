"""nnSAMBoxTrainer: nnU-Net's residual-encoder U-Net trained with box prompts (Stock et al.), and its relatives."""

import copy
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from numpy.typing import NDArray
from torch import nn

from nnsam.errors import InputError
from nnsam.geometry.boxes import box_of_mask, slices
from nnsam.inference.box.predictor import BoxPredictor
from nnsam.inference.torch_backend import TorchBackend
from nnsam.networks.box_unet import BoxUNet
from nnsam.networks.fused_unet import build_unet
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.networks.sam_branch import SAMBranch
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.prompts.encoding import ENCODINGS
from nnsam.prompts.sampling import MIN_PIXELS, BoxJitter, components
from nnsam.support.files import write_json
from nnsam.training.box_planning import box_settings
from nnsam.training.prompted_dataset import PromptedDataset, ViewSampling
from nnsam.training.sam_trainer import nnSAMTrainer
from nnsam.training.transforms import IGNORE_LABEL, AppendBoxPrompt, RandomColours

# A label called so holds many objects, each one connected component, that share a value only to keep apart from their
# neighbours; see nnsam.datasets.objects.
INSTANCE_PREFIX = "instance"


@dataclass(frozen=True)
class BoxLabels:
    """Labels of a data set, as prompts see them.

    Attributes:
        for_network: the entry "labels" of dataset.json that the trained model gets.
        single_component: label values of which only single components are objects.
        ignore: value of pixels without annotation, or None.
    """

    for_network: dict[str, int]
    single_component: frozenset[int]
    ignore: int | None


def prompt_labels(dataset_json: dict[str, Any]) -> BoxLabels:
    """Reads a dataset.json, of the raw data set or of a trained box model.

    Example:
        >>> prompt_labels({"labels": {"background": 0, "liver": 1, "instance_1": 2}}).single_component
        frozenset({2})
    """
    labels = dataset_json["labels"]
    single = frozenset(
        value for name, value in labels.items() if name.startswith(INSTANCE_PREFIX) and isinstance(value, int)
    )
    for_network = {"background": 0, "object": 1}
    if "ignore" in labels:
        for_network["ignore"] = IGNORE_LABEL
    return BoxLabels(for_network, single, labels.get("ignore"))


def validate_boxes(trainer: "nnSAMBoxTrainer", objects_per_case: int) -> Path:
    """Prompts objects of the validation cases with their tight boxes and writes ``validation/summary.json``.

    Objects are connected components of a slice, as in training, at most `objects_per_case` of each case; the draw
    depends on the case's name only, so that trainings can be compared. The file has the keys of nnU-Net's own summary;
    "Dice" is the mean DSC, zoomed, over objects of a case, then over cases.

    Returns:
        The file.
    """
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    spec = BoxModelSpec.from_plans(
        trainer.plans_manager.plans, trainer.dataset_json, type(trainer).__name__, trainer.configuration_name
    )
    predictor = BoxPredictor(TorchBackend(trainer.bare_network, spec.to_manifest(), device=trainer.device))
    _, names = trainer.do_split()
    cases = trainer.dataset_class(trainer.preprocessed_dataset_folder, names)
    results = []
    for name in names:
        objects = _objects(cases, name, trainer.box_labels, objects_per_case)
        scores = [_score(predictor, image, mask) for image, mask in objects]
        if scores:
            results.append({"case": name, "metrics": {"1": {"Dice": float(np.mean(scores)), "objects": len(scores)}}})
    mean = float(np.mean([case["metrics"]["1"]["Dice"] for case in results])) if results else float("nan")
    summary = {
        "prompts": "tight boxes of connected components, seeded by the case's name, zoomed inference",
        "foreground_mean": {"Dice": mean},
        "mean": {"1": {"Dice": mean}},
        "metric_per_case": results,
    }
    path = Path(trainer.output_folder, "validation", "summary.json")
    path.parent.mkdir(exist_ok=True)
    write_json(path, summary, end="")
    trainer.print_to_log_file("Validation complete", also_print_to_console=True)
    trainer.print_to_log_file(f"Mean Validation Dice with box prompts: {mean:.4f} ({len(results)} cases)")
    trainer.set_deep_supervision_enabled(True)
    return path


def _objects(cases, name: str, labels: "BoxLabels", most: int) -> Iterator[tuple[NDArray, NDArray[np.bool_]]]:
    """Yields images, (H, W) or (H, W, C), with the mask of one object each."""
    image, segmentation, _, _ = cases.load_case(name)
    segmentation = np.asarray(segmentation[0])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    candidates = []
    for index in np.flatnonzero((segmentation > 0).any(axis=(1, 2))):
        for value in np.unique(segmentation[index]):
            if value > 0 and value != labels.ignore:
                numbered, count = components(segmentation[index] == value)
                sizes = np.bincount(numbered.ravel(), minlength=count + 1)
                candidates += [(index, value, part) for part in range(1, count + 1) if sizes[part] >= MIN_PIXELS]
    for chosen in rng.permutation(len(candidates))[:most]:
        index, value, part = candidates[chosen]
        numbered, _ = components(segmentation[index] == value)
        picture = np.moveaxis(np.asarray(image[:, index]), 0, -1)
        yield (picture[..., 0] if picture.shape[-1] == 1 else picture), numbered == part


def _score(predictor: BoxPredictor, image: NDArray, mask: NDArray[np.bool_]) -> float:
    """DSC of one object prompted by its tight box."""
    box = box_of_mask(mask)
    prediction = predictor.set_image(image, is_normalized=True).predict_inside(box[None])
    predicted = prediction.full_mask(0)
    inside = slices(box)
    overlap = np.count_nonzero(predicted[inside] & mask[inside])
    return 2 * overlap / (np.count_nonzero(predicted) + np.count_nonzero(mask))


class nnSAMBoxTrainer(nnSAMTrainer):
    """Stock et al.: a random component of a random class is prompted by its dilated box; the target is it alone.

    Their protocol (section 2.4 and Table 2): z-score, nnU-Net's augmentation, soft Dice and cross entropy, SGD with
    Nesterov momentum 0.99, initial learning rate 0.01 with linear decay, batch 51 (from the plans). Beyond the paper:
    half of the views are zoomed to the object, as :class:`nnsam.inference.BoxPredictor` does by default, and prompts
    are dropped now and then, so that plain prediction works.

    The network has two outputs, background and object, whatever labels the data set has.

    Attributes:
        zoom_probability: see :class:`ViewSampling`, as for the next ones.
        whole_label_probability: share of prompts for all pixels of a label.
        prompt_dropout: share of samples without prompt, whose target is everything that is labelled.
        jitter: how boxes are changed.
        random_colours: take colours away, swap or invert them, see :class:`RandomColours`.
        balance_groups: see :class:`PromptedDataset`.
        validation_objects: how many objects of a case the validation at the end prompts, at most.
    """

    use_sam = False
    use_level_sets = False

    zoom_probability = 0.5
    whole_label_probability = 0.0
    prompt_dropout = 0.1
    jitter = BoxJitter(dilation=0.1, erosion=0.03, shift=0.03, exact=0.25)
    random_colours = False
    balance_groups = True
    validation_objects = 10
    initial_learning_rate = 1e-2

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ):
        box_settings(plans, configuration)
        self.box_labels: BoxLabels = prompt_labels(dataset_json)
        dataset_json = {**copy.deepcopy(dataset_json), "labels": self.box_labels.for_network}
        dataset_json.pop("regions_class_order", None)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.initial_learning_rate
        # The views' only "foreground" is their centre: the loader has to crop there, always.
        self.oversample_foreground_percent = 1.0
        # Every sample is a task of its own; nnU-Net's Dice over the batch would be ruled by the largest objects.
        self.configuration_manager.configuration["batch_dice"] = False

    @classmethod
    def build_network_architecture(
        cls, plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> nn.Module:
        """Builds the network from plans that `nnsam plan-box` wrote; `num_input_channels` counts the image's."""
        configuration = configuration_manager.configuration
        if "nnsam_box" not in configuration:
            raise InputError(f"{cls.__name__} needs plans of `nnsam plan-box`; train and predict with -p nnSAMBoxPlans")
        prompt = configuration["nnsam_box"]["prompt"]
        channels = num_input_channels + ENCODINGS[prompt]
        unet = build_unet(configuration["architecture"], channels, num_output_channels, enable_deep_supervision)
        branch = SAMBranch(MobileSAMEncoder(), cls.sam_size) if cls.use_sam else None
        return BoxUNet(unet, num_input_channels, prompt, branch)

    def configure_optimizers(self):
        """Returns SGD with Nesterov momentum 0.99, and a linear decay of the learning rate to 0."""
        optimizer, _ = super().configure_optimizers()
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs, exponent=1.0)

    # ---- data ----

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        """Returns nnU-Net's settings, and keeps the size of the views that its loader will crop."""
        settings = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self._view_size = tuple(int(side) for side in settings[2])
        return settings

    def get_tr_and_val_datasets(self):
        """Returns nnU-Net's data sets, wrapped so that each case comes as a view of one object."""
        training, validation = super().get_tr_and_val_datasets()
        patch = tuple(int(side) for side in self.configuration_manager.patch_size)
        return tuple(
            PromptedDataset(cases, self._sampling(patch, view), balance=self.balance_groups)
            for cases, view in ((training, self._view_size), (validation, patch))
        )

    def _sampling(self, patch: Any, view: Any) -> ViewSampling:
        return ViewSampling(
            patch_size=patch,
            view_size=view,
            zoom_probability=self.zoom_probability,
            whole_label_probability=self.whole_label_probability,
            single_component_labels=self.box_labels.single_component,
            ignore_label=self.box_labels.ignore,
        )

    def get_training_transforms(self, *args, **kwargs):
        """Returns nnU-Net's training transforms with the prompt behind the augmentation."""
        transforms = super().get_training_transforms(*args, **kwargs)
        if self.random_colours:
            transforms.transforms.insert(0, RandomColours())
        return self._with_prompt(transforms, self.jitter, self.prompt_dropout)

    def get_validation_transforms(self, *args, **kwargs):
        """Returns nnU-Net's validation transforms with a tight box as prompt."""
        return self._with_prompt(super().get_validation_transforms(*args, **kwargs), BoxJitter(exact=1.0), 0.0)

    def _with_prompt(self, transforms, jitter: BoxJitter, dropout: float):
        encoding = self.configuration_manager.configuration["nnsam_box"]["prompt"]
        # The last transform makes the smaller copies for deep supervision.
        transforms.transforms.insert(-1, AppendBoxPrompt(encoding, jitter, dropout))
        return transforms

    # ---- validation ----

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Prompts objects of the validation cases with seeded boxes and writes their DSC; nnU-Net's has no prompts."""
        if self._acceleration is not None:
            self._acceleration.disable()
        if save_probabilities:
            self.print_to_log_file("nnsam: --npz is ignored, the box validation keeps no probabilities")
        validate_boxes(self, self.validation_objects)


class nnSAMBoxHybridTrainer(nnSAMBoxTrainer):
    """The box network with the frozen SAM encoder's embedding of the image fused at the bottleneck."""

    use_sam = True


class nnSAMBoxFastTrainer(nnSAMBoxTrainer):
    """The box network for hours of training instead of days: AdamW, nearly all views zoomed, whole labels, too.

    For small data sets, the small model and CPUs. Prompts for all pixels of a label let it follow boxes around
    scattered objects (vessels, both kidneys), which the paper's protocol never shows.
    """

    zoom_probability = 0.85
    whole_label_probability = 0.3
    prompt_dropout = 0.05
    random_colours = True
    initial_learning_rate = 1.5e-3

    def configure_optimizers(self):
        """Returns AdamW with a linear decay of the learning rate to 0."""
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.initial_lr, weight_decay=1e-2)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs, exponent=1.0)
