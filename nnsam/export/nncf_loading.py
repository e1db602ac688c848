"""NNCF, imported without what it does beside its job: telemetry, output on the terminal, changed loggers."""

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nnsam.errors import SetupError

_TELEMETRY = "openvino_telemetry"


def load_nncf() -> Any:
    """Imports NNCF and returns the module.

    Its telemetry package is hidden during the import, so that nothing is sent and no identifier of the user is made.
    Its messages go to the logger "nncf" and from there only to handlers of the program, instead of to the terminal.

    Raises:
        SetupError: NNCF is not installed.
    """
    before = logging.getLoggerClass()
    try:
        with _without_module(_TELEMETRY), _quiet_loggers():
            nncf = importlib.import_module("nncf")
            importlib.import_module("torch.utils.cpp_extension")  # NNCF would import it later, with its warning
    except ImportError as error:
        raise SetupError(
            'NNCF, which makes int8 networks, is not installed; install it with: pip install "nnsam[int8]"'
        ) from error
    finally:
        logging.setLoggerClass(before)  # NNCF makes its own the class of all later loggers
    logger = logging.getLogger("nncf")
    if logger.handlers:  # as NNCF makes it
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    return nncf


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keeps NNCF from drawing progress bars; :func:`load_nncf` comes first."""
    from rich.progress import Progress

    class Silent(Progress):
        def __init__(self, *columns: Any, **options: Any):
            super().__init__(*columns, **{**options, "disable": True})

    module: Any = importlib.import_module("nncf.common.logging.track_progress")
    before = module.Progress
    module.Progress = Silent
    try:
        yield
    finally:
        module.Progress = before


@contextmanager
def _without_module(name: str) -> Iterator[None]:
    """Makes `import name` fail, as if it were not installed."""
    missing = object()
    before = sys.modules.get(name, missing)
    sys.modules[name] = None  # type: ignore[assignment]  # how Python marks a module that cannot be imported
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[name]
        else:
            sys.modules[name] = before  # type: ignore[assignment]


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keeps PyTorch from warning, on import of parts not used here, that there is no CUDA."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
