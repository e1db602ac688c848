"""Shows errors that are the user's to mend as one sentence when nnU-Net's commands end with them."""

import os
import sys

from nnsam.errors import NnsamError

_previous = None


def install() -> None:
    """Installs the hook once; set ``NNSAM_TRACEBACK`` to see stack traces.

    Called when nnU-Net looks up one of our trainers, that is in the processes of nnU-Net's commands. The exceptions
    themselves are ordinary ones: code that calls nnU-Net as a library can catch them.
    """
    global _previous
    if _previous is None:
        _previous = sys.excepthook
        sys.excepthook = _show


def _show(kind, error, trace):
    if issubclass(kind, NnsamError) and not os.environ.get("NNSAM_TRACEBACK"):
        print(f"nnsam: {error}", file=sys.stderr)  # noqa: T201
    else:
        (_previous or sys.__excepthook__)(kind, error, trace)
