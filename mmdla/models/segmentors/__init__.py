"""Segmentors, and what goes around them (mmseg)."""

from .boundary_tta import BoundaryTTAModel
from .multi_scale import MultiScaleSegmentor
from .seg_tta import LogProbTTAModel

__all__ = ['BoundaryTTAModel', 'LogProbTTAModel', 'MultiScaleSegmentor']
