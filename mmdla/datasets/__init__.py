"""Data sets and transforms that mmseg and mmpretrain lack, imported when asked for."""

from ..registry import extension, import_extension
from .folders import DataFolderError

# what needs mmseg or mmpretrain is not for `import *`
__all__ = ['DataFolderError']


def __getattr__(name: str):
    # Known by the data set that it generates.
    known = {'generate_demo_streets': 'DemoStreetsDataset'}.get(name, name)
    found = extension('DATASETS', known)
    if found is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_extension(*found, known), name)
