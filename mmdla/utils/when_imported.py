"""Extend a library when it is used, and not before."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


class _Waiting(MetaPathFinder):
    """Finds modules as everyone else does, and calls an action once one is imported."""

    def __init__(self, name: str, action: Callable[[], object]):
        self.name = name
        self.action = action
        self.asking = False

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != self.name or self.asking:
            return None
        self.asking = True  # the finders are asked again, and so is this one
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asking = False
        if spec is None or spec.loader is None:
            return None
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module) -> None:
            execute(module)
            if module.__name__ != self.name:  # some loaders load several modules
                return
            loader.exec_module = execute
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _call(self.name, self.action)

        loader.exec_module = exec_module
        return spec


def _call(name: str, action: Callable[[], object]) -> None:
    """Call what extends a module, which goes on working if that fails."""
    try:
        action()
    except Exception as error:
        warnings.warn(f'{name} could not be extended ({type(error).__name__}: {error})', stacklevel=2)


def when_imported(name: str, action: Callable[[], object]) -> None:
    """Call an action once a module is there: now if it is imported already, else when it will be.

    What is never imported costs nothing and disturbs nobody.

    Args:
        name (str): The module, by its full name. It need not be installed.
        action (Callable): Called without arguments, once. If it fails there is a warning, and the
            module works as it is.
    """
    if name in sys.modules:
        _call(name, action)
    else:
        sys.meta_path.insert(0, _Waiting(name, action))
