"""Segmentors, and wrappers of segmentors for test-time augmentation (mmseg)."""

from .boundary_tta import BoundaryTTAModel
from .multi_scale import MultiScaleSegmentor
from .seg_tta import LogProbTTAModel

__all__ = ['BoundaryTTAModel', 'LogProbTTAModel', 'MultiScaleSegmentor']
