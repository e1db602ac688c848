"""What the one checkpoint that this package fetches is: name, size, SHA-256 and addresses."""

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from nnsam.support import environment

_REPOSITORY = "https://github.com/ChaoningZhang/MobileSAM"


@dataclass(frozen=True)
class CheckpointSpec:
    """A file that is known byte for byte.

    Attributes:
        name: File name in the cache.
        size: Length in bytes.
        sha256: SHA-256 of the content, lower-case hexadecimal.
        urls: Addresses of the file, tried in this order.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


# The commit's address comes first because it cannot change; the branch's is for the day when the commit is gone.
OFFICIAL = CheckpointSpec(
    name="mobile_sam.pt",
    size=40_728_226,
    sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    urls=(
        f"{_REPOSITORY}/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        f"{_REPOSITORY}/raw/master/weights/mobile_sam.pt",
    ),
)


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
