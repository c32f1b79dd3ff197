"""Data sets and transforms that mmseg and mmpretrain lack, imported when asked for."""

from ..registry import extensions, lazy_attributes
from .folders import DataFolderError

# What needs mmseg or mmpretrain is not for `import *`.
__all__ = ['DataFolderError']

__getattr__ = lazy_attributes(
    __name__,
    extensions('DATASETS') | {'generate_demo_streets': ('mmdla.datasets.demo_streets', 'mmseg')},
)
