"""Transforms for mmseg and mmpretrain, imported when asked for."""

from ...registry import extension, import_extension


def __getattr__(name: str):
    found = extension('TRANSFORMS', name)
    if found is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_extension(*found, name), name)
