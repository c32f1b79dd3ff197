"""Losses (mmseg)."""

from .boundary_loss import BalancedBoundaryLoss, BoundaryCrossEntropyLoss
from .region_loss import OneHotBCELoss, RegionMutualInformationLoss

__all__ = [
    'BalancedBoundaryLoss',
    'BoundaryCrossEntropyLoss',
    'OneHotBCELoss',
    'RegionMutualInformationLoss',
]
