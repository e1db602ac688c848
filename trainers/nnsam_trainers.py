"""The one module that nnU-Net scans for this package's trainers; everything in it is lazy.

nnU-Net asks this module for whatever trainer it looks for, also for other people's, so nothing is imported unless the
name is one of ours. nnU-Net removes modules of this folder from ``sys.modules`` after each look-up; the classes
live in ``nnsam.training``, hence stay the same objects and can be pickled.
"""


def __getattr__(name):
    if not name.lower().startswith("nnsam"):
        raise AttributeError(name)
    from nnsam.nnunet.trainer_names import trainer_class
    from nnsam.training.checks import install

    install()
    # A name that is none of ours is an error, too: nnU-Net asks this folder last, and would only show its stack.
    return trainer_class(name)
