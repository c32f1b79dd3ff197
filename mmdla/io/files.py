"""Folders and the files below them."""

from __future__ import annotations

import os
from pathlib import Path


def is_nonempty(path: str | os.PathLike) -> bool:
    """Whether a path is a file, or a folder that is not empty."""
    path = Path(path)
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def list_files(folder: str | os.PathLike[str], suffixes: tuple[str, ...]) -> list[Path]:
    """List the files below a folder that have one of some suffixes, in any case, in order of path.

    Links to folders are followed. Hidden files and folders are ignored.

    Args:
        folder (str | PathLike): Searched recursively.
        suffixes (tuple[str, ...]): In lower case, with the dot.

    Raises:
        OSError: If a folder cannot be listed.
    """
    found: list[Path] = []

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(os.fspath(folder), onerror=fail, followlinks=True):
        here = os.path.join(os.path.realpath(parent), '')
        # Leave out links to a folder above this one, which would never end.
        folders[:] = [
            name
            for name in folders
            if not name.startswith('.')
            and not here.startswith(os.path.join(os.path.realpath(os.path.join(parent, name)), ''))
        ]
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith('.') and name.lower().endswith(suffixes)
        ]
    return sorted(found)
