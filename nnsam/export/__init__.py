"""Export of trained models to OpenVINO bundles, which :mod:`nnsam.runtime` runs without PyTorch.

Example::

    from nnsam.export.export_model import export_model

    bundle = export_model("nnUNetTrainer__nnUNetPlans__2d", "bundle", images="imagesTs")
"""
