"""Decides which SAM weights a new network gets: NNSAM_WEIGHTS, else the cache, else a download, else an error."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnsam.errors import NnsamWarning, WeightsError
from nnsam.support import environment
from nnsam.weights.cache import cached_path, sha256_of
from nnsam.weights.fetching import fetch
from nnsam.weights.spec import OFFICIAL, CheckpointSpec
from nnsam.weights.status import damaged, missing_configured

_WITHOUT_CACHE = (
    "set NNSAM_WEIGHTS to the path of a checkpoint, or to `random` for an encoder with random weights (for trials)"
)


@dataclass(frozen=True)
class WeightsSource:
    """Where the encoder's weights come from; this is what a trained model records.

    Attributes:
        kind: The official checkpoint, another one that the user named, or random weights.
        path: The file, None for random weights.
        sha256: Its hash, None for random weights.
    """

    kind: Literal["official", "custom", "random"]
    path: Path | None
    sha256: str | None


def resolve(spec: CheckpointSpec = OFFICIAL, progress: bool = True) -> WeightsSource:
    """Returns the weights to use, after a download where that is needed and allowed.

    Keys and shapes are not looked at here: whoever loads the file does that.

    Args:
        spec: The official checkpoint.
        progress: Show a progress bar when downloading.

    Raises:
        WeightsError: There are no usable weights; the message lists the ways to get some.

    Warns:
        NnsamWarning: The weights are random, or not the official ones.
    """
    configured = environment.configured_weights()
    if configured:
        return _from_variable(configured, spec)
    path = cached_path(spec)
    if os.path.isfile(path):
        sha256 = sha256_of(path)
        if sha256 != spec.sha256:
            raise WeightsError(damaged(path, sha256, spec))
        return WeightsSource("official", path, sha256)
    if environment.is_offline():
        raise WeightsError(
            f"there are no SAM weights: {path} is missing and {environment.OFFLINE} forbids to download it; run "
            f"`nnsam weights fetch` with a network or `nnsam weights import FILE` with a copy, or {_WITHOUT_CACHE}"
        )
    try:
        return WeightsSource("official", fetch(spec, progress=progress), spec.sha256)
    except WeightsError as error:
        raise WeightsError(f"{error}; or {_WITHOUT_CACHE}") from error


def _from_variable(value: str, spec: CheckpointSpec) -> WeightsSource:
    if value == environment.RANDOM:
        warnings.warn(
            f"{environment.WEIGHTS}=random: the SAM encoder gets random weights, so this is not nnSAM as published",
            NnsamWarning,
            stacklevel=3,
        )
        return WeightsSource("random", None, None)
    path = Path(value).expanduser().absolute()
    if not os.path.isfile(path):
        raise WeightsError(missing_configured(value))
    sha256 = sha256_of(path)
    if sha256 == spec.sha256:
        return WeightsSource("official", path, sha256)
    warnings.warn(
        f"{environment.WEIGHTS}={value} is not the official {spec.name} (its SHA-256 is {sha256}): it is used as a "
        "fine-tuned encoder, and models record its hash",
        NnsamWarning,
        stacklevel=3,
    )
    return WeightsSource("custom", path, sha256)
