"""What goes around a segmentor (mmseg)."""

from .boundary_tta import BoundaryTTAModel
from .seg_tta import LogProbTTAModel

__all__ = ['BoundaryTTAModel', 'LogProbTTAModel']
