"""The head learns a small structure's level set with nnU-Net's optimizer, where one that saturates does not."""

import torch
from helpers.plans import PLAIN, make_plans
from torch import nn

from nnsam.geometry import level_set_target
from nnsam.losses import LevelSetLoss
from nnsam.losses.level_set import regression_loss
from nnsam.networks import LevelSetHead, build_nnsam_unet


class SaturatingHead(LevelSetHead):
    """Ends in tanh, whose gradient vanishes once the far pixels, nearly all, have pushed it to its limits."""

    def __init__(self, features, classes):
        super().__init__(features, classes)
        nn.init.zeros_(self.seg_layers.bias)

    def forward(self, features):
        return super().forward(features).tanh()


def disks(count=4, side=48, radius=5):
    """Images (B, 1, H, W) and level sets (B, 1, H, W) of disks that fill 3 % of the image."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centres = torch.randint(2 * radius, side - 2 * radius, (count, 2), generator=generator)
    masks = torch.stack([torch.hypot(y - float(a), x - float(b)) < radius for a, b in centres])[:, None]
    images = masks + 0.3 * torch.randn(masks.shape, generator=generator)
    return images, torch.from_numpy(level_set_target(masks.numpy()))


def train(head_class, steps=120, features=8):
    """Trains the level set alone with nnU-Net's SGD; returns the loss by the share of what a constant 1 has."""
    torch.manual_seed(0)
    network = build_nnsam_unet(
        make_plans(PLAIN, 3, features=features), None, input_channels=1, num_classes=1, level_sets=1
    )
    network.level_set_head = head_class(features, 1)
    images, phi = disks()
    loss = LevelSetLoss()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network(images)[-1], phi).total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
    with torch.no_grad():
        found = network(images)[-1]
    return float(regression_loss(found, phi) / regression_loss(torch.ones_like(phi), phi)), found[phi < 0].mean()


def test_a_small_structure_is_learnt():
    share, inside = train(LevelSetHead)
    assert share < 0.5
    assert inside < -0.1


def test_the_check_above_sees_a_head_that_saturates():
    share, _ = train(SaturatingHead)
    assert share > 0.8


def test_the_head_starts_at_the_target_far_from_structures():
    features = torch.randn(1, 8, 5, 6, generator=torch.Generator().manual_seed(0))
    head = LevelSetHead(8, 3)
    assert (head(features) - 1).abs().max() < 0.2
    nn.init.constant_(head.seg_layers.bias, 7)
    assert head(features).min() > 6  # linear: nothing squashes it
