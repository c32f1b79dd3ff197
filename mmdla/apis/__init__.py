"""Networks by name, for those who write no config."""

from ..registry import import_extension

__all__ = ['SegInferencer']


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return import_extension('mmdla.apis.seg_inferencer', 'mmseg', name).SegInferencer
