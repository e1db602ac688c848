"""Validation of a box trainer: seeded boxes on the validation cases, DSC per object."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnsam.data.atomic import atomic_file
from nnsam.geometry.boxes import box_of_mask, slices
from nnsam.inference.box_predictor import BoxPredictor
from nnsam.inference.spec import BoxModelSpec
from nnsam.inference.torch_backend import TorchBackend
from nnsam.prompts.components import components
from nnsam.prompts.convention import to_challenge

if TYPE_CHECKING:
    from nnsam.training.box_labels import BoxLabels
    from nnsam.training.box_trainer import nnSAMBoxTrainer

MIN_PIXELS = 10


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
    predictor = BoxPredictor(TorchBackend(trainer.bare_network, spec, device=trainer.device))
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
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(summary, indent=1))
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
    prediction = predictor.set_image(image).predict([to_challenge(box)])
    predicted = prediction.full_mask(0)
    inside = slices(box)
    overlap = np.count_nonzero(predicted[inside] & mask[inside])
    return 2 * overlap / (np.count_nonzero(predicted) + np.count_nonzero(mask))
