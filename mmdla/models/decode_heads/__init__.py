"""Segmentation heads (mmseg)."""

from .boundary_head import BoundaryHead
from .ida_up_head import IDAUpHead
from .linear_head import LinearHead

__all__ = ['BoundaryHead', 'IDAUpHead', 'LinearHead']
