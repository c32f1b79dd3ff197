"""Losses (mmseg)."""

from .boundary_loss import BalancedBoundaryLoss, BoundaryCrossEntropyLoss

__all__ = ['BalancedBoundaryLoss', 'BoundaryCrossEntropyLoss']
