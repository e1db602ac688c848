"""Which addresses a checkpoint is fetched from, and how they are shown."""

from urllib.parse import urlsplit, urlunsplit

from nnsam.weights import environment
from nnsam.weights.spec import CheckpointSpec


def addresses(spec: CheckpointSpec, mirror: str | None = None) -> tuple[str, ...]:
    """Returns the addresses to try: the mirror alone where one is given (here or in NNSAM_WEIGHTS_URL).

    Whoever names a mirror may be in a network where asking GitHub as well only costs time, or is not wanted.
    """
    mirror = mirror or environment.mirror()
    if mirror is None:
        return spec.urls
    return (mirror + spec.name if mirror.endswith("/") else mirror,)


def shown(url: str) -> str:
    """Returns an address without what may be secret: user, password, query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address given"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
