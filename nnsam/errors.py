"""Errors that a user can mend: each message says what was found, what was expected and what to do.

Anything else that is raised is a defect of this package and keeps its stack trace.
"""


class NnsamError(Exception):
    """Base of all errors that are the user's to mend; commands print them as one sentence and exit with 1."""


class InputError(NnsamError, ValueError):
    """Data, a file or an option is not what was expected."""


class WeightsError(NnsamError, RuntimeError):
    """SAM weights are missing, damaged, of another model, or cannot be fetched."""


class SetupError(NnsamError, RuntimeError):
    """The installation lacks something: a version, an environment variable, an optional package."""


class NnsamWarning(UserWarning):
    """Something works but not as one might think, for example a model with random SAM weights."""
