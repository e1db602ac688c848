"""PyTorch float32 beside OpenVINO on this processor: box network, SAM encoder, the whole of a zoomed box."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsam.bench.cpu.model import random_bundle, random_encoder, random_network
from nnsam.bench.cpu.rows import TableRow, make_image, next_content
from nnsam.bench.cpu.timing import Candidate, comparison, time_alternating
from nnsam.prompts.encoding import ENCODINGS

if TYPE_CHECKING:
    from nnsam.inference import BoxPredictor
    from nnsam.inference.bundle import Bundle


PYTORCH = "PyTorch float32"
INT8_ALONE = "OpenVINO int8, bfloat16 off"
BOX_NETWORK = "box network, one patch"
INT8_NETWORK = "box network, one patch, bfloat16 off"
BOX_ZOOM = "box network, one zoomed box"
HYBRID_ZOOM = "hybrid (SAM 1024), one zoomed box"
_PICTURE = TableRow("zoomed box", (480, 560), 1)


def encoder_name(size: int) -> str:
    """Name of the comparison of the encoder."""
    return f"MobileSAM encoder, {size} x {size}"


def openvino_name(precision: str) -> str:
    """Name of a candidate."""
    return f"OpenVINO {precision}"


def compile_ir(path: Path, precision: str, threads: int = 0) -> Callable[..., NDArray[np.float32]]:
    """Compiles an IR file as the runtime does.

    Args:
        path: the .xml file.
        precision: "f32", "bf16" or "int8"; a quantised network in "f32" computes what is not quantised in that.
        threads: 0 leaves the choice to OpenVINO.
    """
    from nnsam.inference.engine import Engine

    return Engine(precision, threads).compile(path)


def compare_box_network(
    bundle: "Bundle", precisions: Sequence[str], rounds: int, threads: int, with_pytorch: bool = True
) -> list[dict]:
    """Times one patch through the box network.

    Args:
        bundle: of a box model without SAM branch.
        precisions: of f32, bf16 and int8.
        rounds: that count.
        threads: 0 for all.
        with_pytorch: the bundle's network has the published architecture, so that a random one stands for it.

    Returns:
        Comparisons with PyTorch and, for int8 with bfloat16 switched off (as on processors without it), with OpenVINO's
        own f32.
    """
    import torch

    fold = bundle.manifest["networks"]["folds"][0]
    channels = int(bundle.manifest["input"]["channels"]) + ENCODINGS[bundle.manifest["box"]["prompt"]]
    patch = np.random.default_rng(0).standard_normal(
        (1, channels, *bundle.manifest["tiling"]["patch_size"]), np.float32
    )
    candidates: dict[str, Candidate] = {}
    for precision in precisions:
        path = bundle.path(fold["int8" if precision == "int8" else "unet"])
        candidates[openvino_name(precision)] = _on(patch, compile_ir(path, precision, threads))
    if "int8" in precisions:
        candidates[INT8_ALONE] = _on(patch, compile_ir(bundle.path(fold["int8"]), "f32", threads))
    if with_pytorch:
        candidates[PYTORCH] = _pytorch(random_network(), torch.from_numpy(patch))
    timings = time_alternating(candidates, rounds, warmup=2)
    found = [comparison(BOX_NETWORK, timings, PYTORCH)] if with_pytorch else []
    if {"f32", "int8"} <= set(precisions):
        alone = {name: timings[name] for name in (openvino_name("f32"), INT8_ALONE)}
        found.append(comparison(INT8_NETWORK, alone, openvino_name("f32")))
    return found


def compare_encoder(sizes: Sequence[int], precisions: Sequence[str], rounds: int, threads: int) -> list[dict]:
    """Times MobileSAM's image encoder on one picture, for several sizes; int8 is left out."""
    import torch

    found = []
    for size in sizes:
        picture = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        with tempfile.TemporaryDirectory(prefix="nnsam_bench_") as folder:
            path = Path(folder) / "encoder.xml"
            candidates = {PYTORCH: _pytorch(random_encoder(path, size), torch.from_numpy(picture))}
            for precision in [name for name in precisions if name != "int8"]:
                candidates[openvino_name(precision)] = _on(picture, compile_ir(path, precision, threads))
            found.append(comparison(encoder_name(size), time_alternating(candidates, rounds, warmup=2), PYTORCH))
    return found


def compare_zoom(hybrid: bool, precisions: Sequence[str], rounds: int, threads: int) -> dict:
    """Times image and box to mask, in zoom mode: PyTorch's backend beside the runtime's; int8 is left out."""
    from nnsam.inference import BoxPredictor, TorchBackend

    with tempfile.TemporaryDirectory(prefix="nnsam_bench_") as folder:
        bundle = random_bundle(Path(folder), hybrid)
        predictors: dict[str, BoxPredictor] = {
            openvino_name(precision): open_predictor(bundle.folder, precision, threads)
            for precision in precisions
            if precision != "int8"
        }
        predictors[PYTORCH] = BoxPredictor(TorchBackend(random_network(hybrid=hybrid), bundle.manifest))
        made = make_image(_PICTURE)
        candidates = {name: zoom_candidate(predictor, made.boxes) for name, predictor in predictors.items()}
        # Another content in every round: a predictor that remembers embeddings would else have nothing left to do.
        timings = time_alternating(candidates, rounds, 2, lambda number: next_content(made.image, number))
    return comparison(HYBRID_ZOOM if hybrid else BOX_ZOOM, timings, PYTORCH)


def zoom_candidate(predictor: "BoxPredictor", boxes: NDArray[np.int64]) -> Candidate:
    """Returns what segments the boxes in an image that it is given."""
    return lambda image: predictor.set_image(image).predict(boxes).label_map()


def open_predictor(folder: Path, precision: str, threads: int = 0) -> "BoxPredictor":
    """Opens a bundle with the runtime."""
    from nnsam.inference import BoxPredictor

    return BoxPredictor.open(folder, precision, threads, cache=False)


def _on(array: NDArray[np.float32], network: Callable[..., NDArray[np.float32]]) -> Candidate:
    return lambda _: network(array)


def _pytorch(network: Any, tensor: Any) -> Candidate:
    import torch

    def run(_: int) -> object:
        with torch.inference_mode():
            return network(tensor)

    return run
