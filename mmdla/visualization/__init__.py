"""Visualizers (mmseg)."""

from .strip import SegStripVisualizer

__all__ = ['SegStripVisualizer']
