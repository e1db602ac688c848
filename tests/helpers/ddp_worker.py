"""One process of a distributed training on the CPU: nnSAM's network and loss, wrapped as nnU-Net wraps them."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.nn.parallel import DistributedDataParallel

from nnsam.geometry import level_set_target
from nnsam.losses import LevelSetLoss, SegmentationAndLevelSetLoss
from nnsam.networks import MobileSAMEncoder, build_nnsam_unet

CLASSES = 3


def build_loss() -> SegmentationAndLevelSetLoss:
    """nnU-Net's loss under DDP without torch.compile: the coarsest output has a weight of 1e-6, not 0."""
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": dist.is_initialized()}
    loss = DC_and_CE_loss(dice, {}, weight_ce=1, weight_dice=1, dice_class=MemoryEfficientSoftDiceLoss)
    return SegmentationAndLevelSetLoss(DeepSupervisionWrapper(loss, [0.7, 0.2, 0.1, 1e-6]), LevelSetLoss())


def batch(rank: int, step: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Patches and targets; the masks of step 1 are empty, which leaves the curvature term without a band."""
    generator = torch.Generator().manual_seed(10 * rank + step)
    labels = torch.zeros(2, 1, 32, 32)
    if step == 0:
        labels[:, :, 8:24, 8 + rank : 24] = 1
    masks = np.stack([labels[0, 0] == value for value in range(1, CLASSES)])
    level_set = torch.from_numpy(level_set_target(masks)).expand(2, -1, -1, -1)
    return torch.randn(2, 1, 32, 32, generator=generator), [labels[..., ::s, ::s] for s in (1, 2, 4, 8)] + [level_set]


def train(rank: int, plans: dict, unused_layer: bool) -> tuple[dict[str, torch.Tensor], dict]:
    """Two steps; returns this rank's weights, and a report with the parts of the loss and DDP's complaint, if any."""
    torch.manual_seed(rank)  # the processes start with different weights; DDP sends the first one's
    network = build_nnsam_unet(
        plans, MobileSAMEncoder.random(0), input_channels=1, num_classes=CLASSES, level_sets=CLASSES, sam_size=32
    )
    network.level_set_head.skip = 1
    if unused_layer:
        network.unused = torch.nn.Linear(1, 1)
    own = network.decoder.seg_layers[-1].weight.sum().item()
    parallel = DistributedDataParallel(network, find_unused_parameters=False)
    optimizer = torch.optim.SGD([p for p in parallel.parameters() if p.requires_grad], lr=1e-2, momentum=0.99)
    loss, error, parts = build_loss(), "", []
    try:
        for step in range(2):
            patch, target = batch(rank, step)
            optimizer.zero_grad(set_to_none=True)
            loss(parallel(patch), target).backward()
            torch.nn.utils.clip_grad_norm_(parallel.parameters(), 12)
            optimizer.step()
            parts.append(loss.pop_means())
    except RuntimeError as raised:
        error = str(raised)
    return network.state_dict(), {"error": error, "parts": parts, "own": own}


def work(rank: int, plans: dict, folder: str) -> None:
    """Entry point of a process: once as it is, once with a layer that no output depends on."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    weights, report = train(rank, plans, unused_layer=False)
    _, defective = train(rank, plans, unused_layer=True)
    torch.save(weights, f"{folder}/rank{rank}.pt")
    Path(folder, f"rank{rank}.json").write_text(json.dumps({"sound": report, "defective": defective}))
    dist.destroy_process_group()
