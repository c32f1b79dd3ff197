"""Segmentation heads (mmseg)."""

from .boundary_head import BoundaryHead, LinearBoundaryHead
from .ida_up_head import IDAUpHead
from .linear_head import LinearHead
from .object_context_head import ObjectContextHead
from .side_output_head import SideOutputHead

__all__ = [
    'BoundaryHead',
    'IDAUpHead',
    'LinearBoundaryHead',
    'LinearHead',
    'ObjectContextHead',
    'SideOutputHead',
]
