"""Deployment: networks optimized for inference, or exported to files."""

from importlib import import_module

MODULES = dict(
    optimize='inference', OptimizeError='inference', export='exporting', ExportError='exporting'
)
__all__ = ['ExportError', 'OptimizeError', 'export', 'optimize']


def __getattr__(name: str) -> object:
    if name not in MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{MODULES[name]}'), name)
