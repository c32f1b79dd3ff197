"""Wrappers of segmentors for test-time augmentation (mmseg)."""

from .boundary_tta import BoundaryTTAModel
from .seg_tta import LogProbTTAModel

__all__ = ['BoundaryTTAModel', 'LogProbTTAModel']
