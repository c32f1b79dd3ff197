"""Transforms (mmseg)."""

from .reflect import ReflectPad, ReflectRotate

__all__ = ['ReflectPad', 'ReflectRotate']
