"""Segmentation heads (mmseg)."""

from .ida_up_head import IDAUpHead

__all__ = ['IDAUpHead']
