"""Export of trained models to OpenVINO bundles, which :mod:`nnsam.inference` runs without PyTorch.

Example::

    from nnsam.exporting.export_model import export_model

    bundle = export_model("nnUNetTrainer__nnUNetPlans__2d", "bundle", images="imagesTs")
"""
