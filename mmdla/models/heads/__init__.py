"""Classification heads (mmpretrain)."""

from .class_map_head import ClassMapHead, with_class_maps

__all__ = ['ClassMapHead', 'with_class_maps']
