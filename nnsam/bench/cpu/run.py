"""Measures CPU inference: PyTorch float32 beside OpenVINO, and the shapes of Table 4 of Stock et al., cold and warm."""

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsam.bench.cpu.rows import TableRow, choose_rows, make_image, measure_rows, next_content
from nnsam.bench.measuring import Candidate, comparison, find_speedup, time_alternating
from nnsam.bench.models import open_predictor, random_bundle, random_encoder, random_model_folder, random_network
from nnsam.errors import InputError
from nnsam.inference.bundle import Bundle, bundle_precisions
from nnsam.prompts.encoding import ENCODINGS
from nnsam.support.drafts import temporary_folder
from nnsam.support.machine import describe_machine, package_version
from nnsam.support.openvino import COMPUTED, cpu_precisions

if TYPE_CHECKING:
    from nnsam.inference import BoxPredictor

ROUNDS, QUICK_ROUNDS = 9, 3
SIZES, QUICK_SIZES = (1024, 512, 256), (1024,)
# Slices of a volume that are computed; the time of a slice does not depend on their number.
SLICES = 16
FULL_PARAMETERS = 71_817_450
PYTORCH = "PyTorch float32"
INT8_ALONE = "OpenVINO int8, bfloat16 off"
BOX_NETWORK = "box network, one patch"
INT8_NETWORK = "box network, one patch, bfloat16 off"
BOX_ZOOM = "box network, one zoomed box"
HYBRID_ZOOM = "hybrid (SAM 1024), one zoomed box"
_PICTURE = TableRow("zoomed box", (480, 560), 1)


def bench_cpu(
    model: str | Path | None = None,
    *,
    rounds: int | None = None,
    rows: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    quick: bool = False,
    slices_limit: int | None = SLICES,
    threads: int = 0,
    ratios: bool = True,
    cold: bool = True,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Measures this machine.

    Args:
        model: bundle of a box model; None: the published network with random weights, which costs the same.
        rounds: that count; None: 9, or 3 if quick. See `measure_rows` for the rows.
        rows: see `choose_rows`.
        precisions: of f32, bf16, int8; None: all that this machine and the bundle have.
        quick: three rows, few rounds, the encoder at 1024 alone.
        slices_limit: volumes have at most so many slices; None: all.
        threads: 0 for all cores.
        ratios: compare with PyTorch, in the rows as well.
        cold: start fresh processes.
        progress: is told what is being measured.

    Returns:
        The JSON object of `nnsam bench cpu`; speed-ups that were not measured are null, and `notes` says why.

    Raises:
        InputError: no such bundle, row or precision.
        SetupError: a fresh process failed.
    """
    chosen = choose_rows(rows, quick)
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    notes: list[str] = []
    with temporary_folder() as folder:
        machine = describe_machine()
        wanted = _possible(precisions, notes)
        if model is None:
            wanted = _quantizable(wanted, notes) or ["f32"]
            progress("making a model with random weights")
            bundle = random_bundle(folder / "bundle", int8="int8" in wanted)
        else:
            bundle = Bundle.open(model, "box")
            wanted = _offered(bundle, wanted, notes) or ["f32"]
        comparisons = _compare(bundle, wanted, rounds, threads, quick, notes, progress) if ratios else []
        pytorch = random_model_folder(folder / "pytorch") if ratios and _is_published(bundle) else None
        gc.collect()
        with nullcontext() if pytorch is None else _pytorch_threads(threads):
            measured = measure_rows(
                bundle.folder,
                chosen,
                wanted,
                rounds,
                slices_limit=slices_limit,
                threads=threads,
                cold=cold,
                pytorch=pytorch,
                progress=progress,
            )
    return {
        **_headlines(comparisons),
        "comparisons": comparisons,
        "rows": measured,
        "notes": notes,
        "model": "71.8 M parameters, random weights" if model is None else Path(model).name,
        "precisions": list(wanted),
        "rounds": rounds,
        "threads": threads or os.cpu_count(),
        "machine": machine,
        "versions": {**machine["versions"], "nncf": package_version("nncf"), "python": machine["python"]},
    }


def _is_published(bundle: Bundle) -> bool:
    """Whether the network is the published one, so that one with random weights costs as much in PyTorch."""
    networks, model = bundle.manifest["networks"], bundle.manifest["model"]
    return networks["image_encoder"] is None and model["parameters"] == FULL_PARAMETERS


def _possible(precisions: Sequence[str] | None, notes: list[str]) -> list[str]:
    """Returns the precisions that this machine has; what it lacks is noted."""
    unknown = sorted(set(precisions or ()) - set(COMPUTED))
    if unknown:
        raise InputError(f"the precision {unknown[0]!r} is unknown; expected {', '.join(COMPUTED)}")
    wanted = [name for name in COMPUTED if name in (precisions or COMPUTED)]
    lacking = [name for name in wanted if name not in cpu_precisions()]
    notes.extend(f"{name} was left out: this processor does not compute it" for name in lacking)
    return [name for name in wanted if name not in lacking]


def _offered(bundle: Bundle, wanted: list[str], notes: list[str]) -> list[str]:
    """Returns the precisions that a bundle has networks for; what it lacks is noted."""
    lacking = [name for name in wanted if name not in bundle_precisions(bundle)]
    notes.extend(f"{name} was left out: {bundle.folder.name} has no network for it" for name in lacking)
    return [name for name in wanted if name not in lacking]


def _quantizable(wanted: list[str], notes: list[str]) -> list[str]:
    """Leaves int8 out where nothing can be quantised; that is noted."""
    if "int8" in wanted and find_spec("nncf") is None:
        notes.append("int8 was left out: NNCF is not installed (pip install nncf)")
        return [name for name in wanted if name != "int8"]
    return wanted


def _compare(
    bundle: Bundle,
    precisions: Sequence[str],
    rounds: int,
    threads: int,
    quick: bool,
    notes: list[str],
    progress: Callable[[str], object],
) -> list[dict[str, Any]]:
    with _pytorch_threads(threads):
        found = []
        if bundle.manifest["networks"]["image_encoder"] is None:
            progress("box network")
            same = _is_published(bundle)
            found += compare_box_network(bundle, precisions, rounds, threads, with_pytorch=same)
            if not same:
                notes.append("the model is not the published network, so that its patch has no PyTorch time beside it")
        else:
            notes.append("the model has a SAM branch, so that its network was not timed alone")
        for size in QUICK_SIZES if quick else SIZES:
            progress(f"SAM encoder at {size}")
            found += compare_encoder([size], precisions, rounds, threads)
        for hybrid in (False, True):
            progress("hybrid, zoom" if hybrid else "box network, zoom")
            found.append(compare_zoom(hybrid, precisions, rounds, threads))
            gc.collect()
    return found


@contextmanager
def _pytorch_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _headlines(comparisons: Sequence[dict]) -> dict[str, float | None]:
    def of(name: str, precision: str) -> float | None:
        return find_speedup(comparisons, name, openvino_name(precision))

    def best(name: str) -> float | None:
        return max(filter(None, (of(name, precision) for precision in COMPUTED)), default=None)

    return {
        "box_net_f32_speedup": of(BOX_NETWORK, "f32"),
        "box_net_bf16_speedup": of(BOX_NETWORK, "bf16"),
        "box_net_int8_speedup": of(BOX_NETWORK, "int8"),
        "int8_over_f32_without_bf16": find_speedup(comparisons, INT8_NETWORK, INT8_ALONE),
        **{f"encoder{size}_{name}_speedup": of(encoder_name(size), name) for size in SIZES for name in ("f32", "bf16")},
        "box_zoom_speedup": best(BOX_ZOOM),
        "hybrid_zoom_speedup": best(HYBRID_ZOOM),
    }


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
    bundle: Bundle, precisions: Sequence[str], rounds: int, threads: int, with_pytorch: bool = True
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
        with temporary_folder() as folder:
            path = folder / "encoder.xml"
            candidates = {PYTORCH: _pytorch(random_encoder(path, size), torch.from_numpy(picture))}
            for precision in [name for name in precisions if name != "int8"]:
                candidates[openvino_name(precision)] = _on(picture, compile_ir(path, precision, threads))
            found.append(comparison(encoder_name(size), time_alternating(candidates, rounds, warmup=2), PYTORCH))
    return found


def compare_zoom(hybrid: bool, precisions: Sequence[str], rounds: int, threads: int) -> dict:
    """Times image and box to mask, in zoom mode: PyTorch's backend beside the runtime's; int8 is left out."""
    from nnsam.inference import BoxPredictor, TorchBackend

    with temporary_folder() as folder:
        bundle = random_bundle(folder, hybrid)
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


def _on(array: NDArray[np.float32], network: Callable[..., NDArray[np.float32]]) -> Candidate:
    return lambda _: network(array)


def _pytorch(network: Any, tensor: Any) -> Candidate:
    import torch

    def run(_: int) -> object:
        with torch.inference_mode():
            return network(tensor)

    return run
