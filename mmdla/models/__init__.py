"""Models. Backbones and necks need mmengine and mmcv only; heads are imported when asked for."""

from ..registry import EXTENSIONS, import_extension
from .backbones import DLA
from .necks import IDAUp

_NEED_MMSEG = {
    name: module for module, names in EXTENSIONS['mmseg']['MODELS'].items() for name in names
}

__all__ = ['DLA', 'IDAUp']  # what needs mmseg is not for `import *`


def __getattr__(name: str):
    if name in _NEED_MMSEG:
        return getattr(import_extension(_NEED_MMSEG[name], 'mmseg', name), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
