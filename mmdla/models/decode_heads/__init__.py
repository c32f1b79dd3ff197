"""Segmentation heads (mmseg)."""

from .ida_up_head import IDAUpHead
from .linear_head import LinearHead

__all__ = ['IDAUpHead', 'LinearHead']
