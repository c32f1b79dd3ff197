"""Transforms for mmseg and mmpretrain, imported when asked for."""

from ...registry import extensions, lazy_attributes

__getattr__ = lazy_attributes(__name__, extensions('TRANSFORMS'))
