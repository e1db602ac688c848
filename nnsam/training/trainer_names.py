"""The home of trainer classes whose names carry options, e.g. `nnSAMTrainer_2epochs_sam256`.

They are made on the fly by :mod:`nnsam.nnunet.trainer_names`; pickles and nnU-Net's worker processes find them again by
this module's name and theirs.
"""

from typing import Any

from nnsam.errors import InputError
from nnsam.nnunet.trainer_names import TRAINERS, parse_options, trainer_class

__all__ = ["TRAINERS", "parse_options", "trainer_class"]


def __getattr__(name: str) -> Any:
    try:
        return trainer_class(name)
    except (LookupError, InputError) as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
