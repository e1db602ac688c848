"""The one module that nnU-Net scans for this package's trainers; everything in it is lazy.

nnU-Net asks this module for whatever trainer it looks for, also for other people's, so nothing is imported unless the
name is one of ours. nnU-Net removes modules of this folder from ``sys.modules`` after each look-up; the classes
live in ``nnsam.training``, hence stay the same objects and can be pickled.
"""

import os


def __getattr__(name):
    if not name.lower().startswith("nnsam"):
        raise AttributeError(name)
    from nnsam.nnunet.trainer_names import trainer_class
    from nnsam.training.checks import install

    install()
    try:
        return trainer_class(name)
    except LookupError:
        # Of the last folder that nnU-Net asks, its own answer would be a stack trace.
        folders = [folder for folder in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if folder.strip()]
        if folders and os.path.realpath(folders[-1]) != os.path.realpath(os.path.dirname(__file__)):
            raise AttributeError(name) from None
        raise
