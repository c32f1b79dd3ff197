"""Data sets that are drawn on first use: once and whole, however many processes ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from .folders import DataFolderError, new_folder


def generate_once(
    root: Path,
    recipe: dict,
    manifest: str,
    variable: str,
    draw: Callable[[Path], None],
    check: Callable[[Path], None],
) -> Path:
    """Have a data set drawn if it is not there, and checked if it is.

    The first process draws into a folder beside ``root`` and renames it when complete; others wait.

    Args:
        root (Path): Folder of the data set.
        recipe (dict): What the data set follows from; JSON keeps it as it is.
        manifest (str): Name of the file, in ``root``, that keeps it.
        variable (str): Environment variable that names another folder, for the message.
        draw (Callable[[Path], None]): Writes the data set into a folder.
        check (Callable[[Path], None]): Raises DataFolderError if a folder lacks a part of it.

    Returns:
        Path: ``root``.

    Raises:
        DataFolderError: If ``root`` holds something else, or not all of it.
    """

    def is_there() -> bool:
        if not root.exists():
            return False
        path = root / manifest
        try:
            found = json.loads(path.read_text()) if path.is_file() else None
        except (ValueError, RecursionError) as error:
            found = f'no JSON, {error}'
        if found != recipe:
            raise DataFolderError(
                f'{root} is there already and is not the demo data set asked for (its {manifest}: '
                f'{found}, wanted: {recipe}). Move it away, or set {variable} to another folder.'
            )
        check(root)
        return True

    # The folder appears whole, so that one that is there needs no lock, and no right to write.
    if is_there():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{root}.lock'):
        if is_there():
            return root
        with new_folder(root) as parts:
            draw(parts)
            (parts / manifest).write_text(json.dumps(recipe, indent=2) + '\n')
    return root


def check_count(folder: Path, pattern: str, wanted: int, root: Path) -> None:
    """Raise if a folder of a generated data set does not hold as many files as it should.

    Args:
        folder (Path): The folder.
        pattern (str): What to count in it.
        wanted (int): How many there should be.
        root (Path): Of the data set, for the message.

    Raises:
        DataFolderError: If there are more or fewer.
    """
    there = len(list(folder.glob(pattern)))
    if there != wanted:
        raise DataFolderError(
            f'{folder} holds {there} of the {wanted} {Path(pattern).name} that the demo data set has. '
            f'Remove {root} and it is drawn anew.'
        )
