"""What goes around a segmentor (mmseg)."""

from .seg_tta import LogProbTTAModel

__all__ = ['LogProbTTAModel']
