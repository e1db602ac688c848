"""Decides which SAM weights a new network gets, and says which they would be without changing anything.

NNSAM_WEIGHTS, else the cache, else a download, else an error.
"""

import importlib.util
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnsam.errors import NnsamWarning, WeightsError
from nnsam.support import environment
from nnsam.weights.cache import (
    OFFICIAL,
    CheckpointSpec,
    cached_path,
    file_size,
    is_intact,
    part_path,
    sha256_of,
    shown,
)
from nnsam.weights.fetching import fetch

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
            raise WeightsError(_damaged(path, sha256, spec))
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
        raise WeightsError(_missing(value))
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


@dataclass(frozen=True)
class WeightsStatus:
    """The state of the SAM weights on this machine.

    Attributes:
        source: What decides: the variable NNSAM_WEIGHTS, the cached file, or nothing yet.
        path: The file that would be used, or where a fetched one would be put; None for random weights.
        present: Whether that file exists.
        size: Its length in bytes, 0 where it is absent.
        sha256: Its hash, None where it is absent.
        sha256_ok: Whether it is the official checkpoint.
        random: Whether NNSAM_WEIGHTS asks for random weights.
        offline: Whether NNSAM_OFFLINE forbids the network.
        home: The folder of the cache.
        mirror: The address in NNSAM_WEIGHTS_URL, without passwords.
        partial_size: Bytes of a broken-off download that the next one continues.
        found_elsewhere: An official checkpoint outside the cache that could be imported.
        problem: What is wrong and has to be mended, None where nothing is.
    """

    source: Literal["NNSAM_WEIGHTS", "cache", "none"]
    path: Path | None
    present: bool
    size: int
    sha256: str | None
    sha256_ok: bool
    random: bool
    offline: bool
    home: Path
    mirror: str | None
    partial_size: int
    found_elsewhere: Path | None
    problem: str | None


def status(spec: CheckpointSpec = OFFICIAL) -> WeightsStatus:
    """Looks at the variables, the cache and an installed `mobile_sam`."""
    configured = environment.configured_weights()
    mirror = environment.mirror()
    random = configured == environment.RANDOM
    path = None if random else Path(configured).expanduser().absolute() if configured else cached_path(spec)
    present = path is not None and os.path.isfile(path)
    sha256, problem = None, None
    if present and path is not None:
        try:
            sha256 = sha256_of(path)
        except WeightsError as error:
            problem = str(error)
    official = sha256 == spec.sha256
    if configured and not random and not present:
        problem = _missing(configured)
    elif not configured and sha256 is not None and not official:
        problem = _damaged(cached_path(spec), sha256, spec)
    return WeightsStatus(
        source="NNSAM_WEIGHTS" if configured else "cache" if present else "none",
        path=path,
        present=present,
        size=file_size(path) if present and path is not None else 0,
        sha256=sha256,
        sha256_ok=official,
        random=random,
        offline=environment.is_offline(),
        home=environment.home(),
        mirror=shown(mirror) if mirror else None,
        partial_size=file_size(part_path(spec)),
        found_elsewhere=None if configured or official else _find_elsewhere(spec),
        problem=problem,
    )


def _find_elsewhere(spec: CheckpointSpec = OFFICIAL) -> Path | None:
    """Returns the official checkpoint beside an installed `mobile_sam` package, which is found but not imported."""
    try:
        package = importlib.util.find_spec("mobile_sam")
    except (ImportError, ValueError):
        return None
    for folder in (package and package.submodule_search_locations) or ():
        # A clone installed in place keeps its weights beside the package; some users copy them into it.
        for candidate in (Path(folder).parent / "weights" / spec.name, Path(folder) / "weights" / spec.name):
            try:
                if is_intact(candidate, spec):
                    return candidate
            except WeightsError:  # unreadable: nothing to suggest
                continue
    return None


def _damaged(path: Path, sha256: str, spec: CheckpointSpec) -> str:
    """Says that a cached file is not what it was when it was put there."""
    return (
        f"the cached checkpoint {path} is damaged: SHA-256 {sha256}, expected {spec.sha256}; "
        "replace it with `nnsam weights fetch` or `nnsam weights import FILE`"
    )


def _missing(value: str) -> str:
    """Says that NNSAM_WEIGHTS names no file."""
    path = Path(value).expanduser().absolute()
    return (
        f"{environment.WEIGHTS} is {value!r}, but {path} is {'a folder' if path.is_dir() else 'missing'}: "
        f"expected the path of a checkpoint file, or `{environment.RANDOM}` for an encoder with random weights"
    )
