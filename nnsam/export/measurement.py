"""Runs a network in PyTorch and its exports in OpenVINO on the same patches, turn by turn; compares and times them."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nnsam.export.conversion import sam_input
from nnsam.export.parity import LogitDifference, MaskAgreement
from nnsam.export.trained_model import sam_branch
from nnsam.runtime.engine import Engine
from nnsam.runtime.precision import cpu_precisions

Run = Callable[[NDArray[np.float32], NDArray[np.float32] | None], NDArray[np.float32]]

# Patches that PyTorch computes too, by the dimensions of a patch; it is the slowest of all.
PYTORCH_PATCHES: Mapping[int, int] = {2: 8, 3: 4}
# Further turns for timing end after so many seconds; the first turn of each is warming up.
TIMING_SECONDS = 2.0
TURNS = 7


@dataclass
class Measured:
    """Results of one fold's networks.

    Attributes:
        differences: logits of "f32" to PyTorch, and of the other precisions to OpenVINO f32.
        agreements: masks of each precision but f32 to OpenVINO f32.
        seconds: per patch, of "pytorch" and of each precision; the best turn.
    """

    differences: dict[str, LogitDifference] = field(default_factory=dict)
    agreements: dict[str, MaskAgreement] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkFiles:
    """The IR files that compute one fold in one precision.

    Attributes:
        unet: patch (and embedding) -> logits; or patch and picture -> logits if `fused`.
        encoder: picture -> embedding, None where there is none.
        fused: `unet` is the fused network, `encoder` is not used.
    """

    unet: Path
    encoder: Path | None = None
    fused: bool = False


def float_precisions() -> tuple[str, ...]:
    """Returns the floating-point precisions that this CPU computes in hardware: f32 and, on some, bf16."""
    return tuple(name for name in ("f32", "bf16") if name in cpu_precisions())


def openvino_run(files: NetworkFiles, precision: str) -> Run:
    """Opens files; returns a function of patch and picture that gives logits.

    Args:
        files: the networks.
        precision: "f32", "bf16" or, of int8 files, "int8".
    """
    engine = Engine(precision)  # the runtime's: what is compared and timed is what will be used
    unet = engine.compile(files.unet)
    encoder = engine.compile(files.encoder) if files.encoder is not None and not files.fused else None

    def run(patch: NDArray[np.float32], picture: NDArray[np.float32] | None) -> NDArray[np.float32]:
        inputs = [patch]
        if files.fused:
            assert picture is not None
            inputs.append(picture)
        elif encoder is not None:
            assert picture is not None
            inputs.append(encoder(picture))
        return unet(*inputs)

    return run


def pictures_of(network: nn.Module, patches: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32] | None]:
    """Returns what the SAM branch's encoder sees of each patch; None without a branch."""
    branch = sam_branch(network)
    if branch is None:
        return [None] * len(patches)
    with torch.no_grad():
        return [branch.prepare.picture(sam_input(network, torch.from_numpy(patch))).numpy() for patch in patches]


def measure(
    network: nn.Module, runs: Mapping[str, Run], patches: Sequence[NDArray[np.float32]], has_regions: bool
) -> Measured:
    """Compares and times one fold.

    Args:
        network: the fold's network in PyTorch.
        runs: by precision; "f32" is the reference of the masks.
        patches: (1, C, *patch) each, or with prompts.
        has_regions: the outputs are regions.
    """
    result = Measured(
        {name: LogitDifference() for name in runs},
        {name: MaskAgreement(has_regions) for name in runs if name != "f32"},
    )
    clock = _Clock()
    with_pytorch = set(_spread(len(patches), PYTORCH_PATCHES[patches[0].ndim - 2]))
    for index, patch in enumerate(patches):
        picture = pictures_of(network, [patch])[0]
        reference = clock("f32", lambda: runs["f32"](patch, picture))  # noqa: B023 - called at once
        if index in with_pytorch:
            result.differences["f32"].add(clock("pytorch", lambda: pytorch_logits(network, patch)), reference)  # noqa: B023
        for name, agreement in result.agreements.items():
            found = clock(name, lambda: runs[name](patch, picture))  # noqa: B023
            agreement.add(reference, found)
            result.differences[name].add(reference, found)
    calls: dict[str, Callable] = {name: lambda run=run: run(patch, picture) for name, run in runs.items()}
    clock.turns({**calls, "pytorch": lambda: pytorch_logits(network, patch)})
    result.seconds = clock.best
    return result


def pytorch_logits(network: nn.Module, patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the trained network's logits in float32."""
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        return network(torch.from_numpy(patch)).numpy()


def best_seconds(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Times calls turn by turn; returns the best time of each."""
    clock = _Clock()
    clock.turns(calls)
    return clock.best


class _Clock:
    """Keeps the best time of each name; the first call of each counts only where it is the only one."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}
        self._calls: dict[str, int] = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
        self._calls[name] = self._calls.get(name, 0) + 1
        self.best[name] = seconds if self._calls[name] <= 2 else min(self.best[name], seconds)
        return result

    def turns(self, calls: Mapping[str, Callable[[], Any]]) -> None:
        """Calls everything again and again, in turns."""
        end = time.perf_counter() + TIMING_SECONDS
        for turn in range(TURNS):
            if turn and time.perf_counter() > end:
                return
            for name, call in calls.items():
                self(name, call)


def _spread(length: int, count: int) -> list[int]:
    """Returns at most `count` indices, spread evenly over the length."""
    return sorted({int(index) for index in np.linspace(0, length - 1, min(length, count)).round()})
