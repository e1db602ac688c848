"""The environment variables that say where SAM weights come from; a variable set to nothing counts as unset."""

import os
from pathlib import Path

from nnsam.errors import SetupError

HOME = "NNSAM_HOME"
WEIGHTS = "NNSAM_WEIGHTS"
OFFLINE = "NNSAM_OFFLINE"
MIRROR = "NNSAM_WEIGHTS_URL"

# The value of NNSAM_WEIGHTS that asks for a random encoder (a file of that name is `./random`).
RANDOM = "random"


def _read(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def home() -> Path:
    """Returns the folder for everything that the package caches: NNSAM_HOME or the platform's user cache folder.

    Raises:
        SetupError: the user has no home folder, as in containers that run with a number that belongs to nobody.
    """
    configured = _read(HOME)
    if configured:
        return Path(configured).expanduser().absolute()
    import platformdirs

    try:
        return Path(platformdirs.user_cache_dir("nnsam", appauthor=False))
    except RuntimeError:  # Python's of an unknown home
        raise SetupError(
            f"this user has no home folder; set HOME or {HOME} to a folder that can be written to"
        ) from None


def configured_weights() -> str | None:
    """Returns the value of NNSAM_WEIGHTS: a path, `random`, or None where it is unset."""
    return _read(WEIGHTS)


def is_offline() -> bool:
    """Tells whether NNSAM_OFFLINE forbids the network; 0, false, no and off count as unset."""
    return (_read(OFFLINE) or "0").lower() not in {"0", "false", "no", "off"}


def mirror() -> str | None:
    """Returns the address in NNSAM_WEIGHTS_URL, which is then used instead of the official ones."""
    return _read(MIRROR)
