"""Models. Backbones and necks need mmengine and mmcv only; heads are imported when asked for."""

from importlib import import_module

from .backbones import DLA
from .necks import IDAUp

_NEED_MMSEG = {
    'IDAUpHead': '.decode_heads',
    'LogProbTTAModel': '.segmentors',
}

__all__ = ['DLA', 'IDAUp', *_NEED_MMSEG]


def __getattr__(name: str):
    if name in _NEED_MMSEG:
        return getattr(import_module(_NEED_MMSEG[name], __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
