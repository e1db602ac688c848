"""Predictors to measure: a trained model, the published network with random weights, one that only counts."""

import numpy as np
from numpy.typing import NDArray

from nnsam.inference import BoxModelSpec, BoxPredictor


def load_predictor(folder: str | None, device: str = "cpu") -> BoxPredictor:
    """Loads a model folder, or builds the network of Stock et al. (71,817,450 parameters) with random weights.

    Raises:
        InputError: no such model.
    """
    if folder is not None:
        return BoxPredictor.from_folder(folder, device=device)
    import torch

    from nnsam.inference import TorchBackend
    from nnsam.networks.box_unet import MODELS, build_box_unet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_box_unet("full")
    spec = BoxModelSpec(MODELS["full"][2], image_channels=3, prompt="binary")
    return BoxPredictor(TorchBackend(network, spec, device=device))


class CountingBackend:
    """Takes every pixel for the object, so that volumes are followed through the whole box; costs nothing.

    Args:
        spec: of the model whose passes are to be counted.

    Attributes:
        spec: see above.
        passes: number of patches seen.
    """

    def __init__(self, spec: BoxModelSpec):
        self.spec, self.passes = spec, 0

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns ones, (B, h, w), for (B, C + P, h, w)."""
        self.passes += len(patches)
        return np.ones((len(patches), *patches.shape[2:]), np.float32)
