"""Networks by name, for those who write no config."""

from ..registry import import_extension

MODULES = dict(BoundaryInferencer='boundary_inferencer', SegInferencer='seg_inferencer')
__all__ = ['BoundaryInferencer', 'SegInferencer']


def __getattr__(name: str):
    if name not in MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_extension(f'mmdla.apis.{MODULES[name]}', 'mmseg', name), name)
