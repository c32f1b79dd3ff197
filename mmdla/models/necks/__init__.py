"""Necks."""

from .afa_up import AFAUp
from .ida_up import IDAUp, IDAUpStep

__all__ = ['AFAUp', 'IDAUp', 'IDAUpStep']
