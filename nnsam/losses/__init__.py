"""Losses: level-set regression with curvature, and its combination with nnU-Net's segmentation loss."""

from nnsam.losses.compound import SegmentationAndLevelSetLoss
from nnsam.losses.level_set import LevelSetLoss, LevelSetTerms, curvature_loss, regression_loss

__all__ = [
    "LevelSetLoss",
    "LevelSetTerms",
    "SegmentationAndLevelSetLoss",
    "curvature_loss",
    "regression_loss",
]
