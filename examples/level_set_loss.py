"""Trains a U-Net of your own with the level-set loss beside cross-entropy, on synthetic hearts.

python level_set_loss.py --steps 60
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nnsam.datasets.phantom import make_phantom
from nnsam.geometry import signed_distance, squash
from nnsam.losses import LevelSetLoss

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=60, help="training steps")
args = parser.parse_args()

CLASSES, BAND = 6, 8.0
torch.manual_seed(0)


class TinyUNet(nn.Module):
    """Two levels, and two heads on the same features."""

    def __init__(self):
        super().__init__()

        def block(channels_in, channels_out):
            convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1)
            return nn.Sequential(convolution, nn.InstanceNorm2d(channels_out), nn.LeakyReLU())

        self.fine, self.coarse, self.up = block(1, 16), block(16, 32), block(48, 16)
        self.segmentation, self.level_sets = nn.Conv2d(16, CLASSES, 1), nn.Conv2d(16, CLASSES - 1, 1)

    def forward(self, image):
        """Returns logits and squashed signed distances."""
        fine = self.fine(image)
        coarse = self.coarse(functional.max_pool2d(fine, 4))
        features = self.up(torch.cat((fine, functional.interpolate(coarse, scale_factor=4.0, mode="bilinear")), dim=1))
        return self.segmentation(features), self.level_sets(features)


images, labels = zip(*(make_phantom(seed, size=(64, 64)) for seed in range(8)), strict=True)
# One signed distance per structure, negative inside, in pixels; squashed to (-1, 1).
masks = [np.stack([label == k for k in range(1, CLASSES)]) for label in labels]
phi = torch.from_numpy(np.stack([[squash(signed_distance(mask), BAND) for mask in case] for case in masks]))
image = torch.from_numpy(np.stack(images)).float()[:, None] / 255
label = torch.from_numpy(np.stack(labels)).long()

network, level_set_loss = TinyUNet(), LevelSetLoss(band=BAND)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for step in range(args.steps):
    logits, phi_hat = network(image)
    level_sets = level_set_loss(phi_hat, phi)
    loss = functional.cross_entropy(logits, label) + level_sets.total
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == args.steps - 1:
        parts = f"level set {level_sets.regression:.3f}, curvature {level_sets.curvature:.3f}"
        print(f"step {step:3d}: loss {loss:.3f}, {parts}")
