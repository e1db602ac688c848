"""Says which SAM weights would be used, without downloading, loading or changing anything."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnsam.errors import WeightsError
from nnsam.support import environment
from nnsam.weights.cache import cached_path, file_size, is_intact, part_path, sha256_of
from nnsam.weights.spec import OFFICIAL, CheckpointSpec, shown

Origin = Literal["NNSAM_WEIGHTS", "cache", "none"]


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

    source: Origin
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
        problem = missing_configured(configured)
    elif not configured and sha256 is not None and not official:
        problem = damaged(cached_path(spec), sha256, spec)
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
        found_elsewhere=None if configured or official else find_elsewhere(spec),
        problem=problem,
    )


def find_elsewhere(spec: CheckpointSpec = OFFICIAL) -> Path | None:
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


def damaged(path: Path, sha256: str, spec: CheckpointSpec) -> str:
    """Says that a cached file is not what it was when it was put there."""
    return (
        f"the cached checkpoint {path} is damaged: SHA-256 {sha256}, expected {spec.sha256}; "
        "replace it with `nnsam weights fetch` or `nnsam weights import FILE`"
    )


def missing_configured(value: str) -> str:
    """Says that NNSAM_WEIGHTS names no file."""
    path = Path(value).expanduser().absolute()
    return (
        f"{environment.WEIGHTS} is {value!r}, but {path} is {'a folder' if path.is_dir() else 'missing'}: "
        f"expected the path of a checkpoint file, or `{environment.RANDOM}` for an encoder with random weights"
    )
