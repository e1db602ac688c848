"""Imports OpenVINO without its telemetry.

`import openvino` as such reports the import to its makers over the network and writes a client id into the home folder,
unless the user has opted out (seen with 2026.4; `openvino/tools/ovc/__init__.py`). Where the package
`openvino_telemetry` is not found it does neither, and imports sooner.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nnsam.errors import SetupError

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Returns the `openvino` module, without telemetry where nobody has imported it before.

    Raises:
        SetupError: it is not installed, or cannot be loaded.
    """
    try:
        with no_telemetry():
            import openvino
    except ModuleNotFoundError:
        raise SetupError('OpenVINO is not installed; install it with: pip install "openvino>=2024.4"') from None
    except ImportError as error:
        raise SetupError(f"OpenVINO cannot be loaded ({error}); install it again") from None
    return openvino


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Hides the package `openvino_telemetry` from what is imported in the block, unless it has been imported before."""
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(_TELEMETRY, None)
