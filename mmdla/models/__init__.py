"""Models. Backbones and necks need mmengine and mmcv only; the others are imported when asked for."""

from ..registry import extension, import_extension
from .backbones import DLA, DRN, AggregatedStages, SqueezeNet
from .necks import IDAUp

# what needs mmseg or mmpretrain is not for `import *`
__all__ = ['DLA', 'DRN', 'AggregatedStages', 'IDAUp', 'SqueezeNet']


def __getattr__(name: str):
    found = extension('MODELS', name)
    if found is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_extension(*found, name), name)
