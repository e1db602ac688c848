"""Makes nnU-Net find the trainers of this package; runs at interpreter start, so standard library only.

nnU-Net 2.8 looks for trainers in the folders that the environment variable ``nnUNet_extTrainer`` lists. The wheel
installs ``nnsam.pth`` (and ``nnsam.start`` for Python 3.15 and later, PEP 829), which calls :func:`register`. Child
processes inherit the variable or run the hook themselves.
"""

import os

VARIABLE = "nnUNet_extTrainer"


def trainer_folder() -> str | None:
    """Returns the folder that nnU-Net has to scan, or None where the package is damaged."""
    # Plain path arithmetic first: importlib.util.find_spec costs about as much as everything else here together.
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "trainers")
    if os.path.isdir(folder):
        return folder
    # Editable installs map the package nnsam.trainers to the repository's top-level folder `trainers`.
    import importlib.util

    spec = importlib.util.find_spec("nnsam.trainers")
    if spec is None or not spec.submodule_search_locations:
        return None
    return os.path.abspath(next(iter(spec.submodule_search_locations)))


def register() -> None:
    """Appends the trainer folder to ``nnUNet_extTrainer``; entries that are there already keep precedence."""
    try:
        folder = trainer_folder()
    except Exception:  # an interpreter must start even when this package is half removed; `nnsam doctor` tells
        return
    if folder is None:
        return
    entries = [entry for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry.strip()]
    if folder not in entries:
        os.environ[VARIABLE] = os.pathsep.join([*entries, folder])
