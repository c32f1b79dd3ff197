"""Necks."""

from .ida_up import IDAUp, IDAUpStep

__all__ = ['IDAUp', 'IDAUpStep']
