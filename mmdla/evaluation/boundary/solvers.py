"""Which solver scores boundary maps: Numba's, where it is installed, or SciPy's."""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache
from types import ModuleType

SOLVERS = ('numba', 'scipy')
INSTALL = "pip install 'mmdla[scoring]'"


def solver_name(solver: str | None = None) -> str:
    """``'numba'`` or ``'scipy'``, with ``solver=None`` the one that is used.

    Raises:
        ValueError: If there is no such solver.
        ImportError: For ``solver='numba'`` without Numba.
    """
    return 'scipy' if choose_solver(solver) is None else 'numba'


def choose_solver(solver: str | None = None) -> ModuleType | None:
    """The module with what Numba compiles, or None for SciPy.

    Args:
        solver (str, optional): ``'numba'``, ``'scipy'``, or None for Numba where it is installed.
            Default: None.

    Raises:
        ValueError: If there is no such solver.
        ImportError: For ``solver='numba'`` without Numba.
    """
    if solver not in (None, *SOLVERS):
        raise ValueError(f'solver={solver!r} must be one of {", ".join(SOLVERS)}, or None')
    if solver == 'scipy':
        return None
    compiled, problem = _load()
    if compiled is None and solver == 'numba':
        raise ImportError(f"solver='numba': {problem}")
    return compiled


@cache
def _load() -> tuple[ModuleType | None, str]:
    """The compiled module, or None and why it is not there."""
    if importlib.util.find_spec('numba') is None:
        return None, f'Numba is not installed: {INSTALL}'
    try:
        from . import compiled
    except Exception as error:  # ImportError with a NumPy too new for it, RuntimeError without a cache
        problem = f'Numba is installed, but cannot be used ({type(error).__name__}: {error})'
        warnings.warn(f'{problem}; boundaries are scored by SciPy, which is slower', stacklevel=2)
        return None, problem
    return compiled, ''
