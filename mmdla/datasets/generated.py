"""Data sets that are generated on first use, completely and by one process only."""

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
    """Generate a data set if it does not exist, and check it if it does.

    The first process writes into a folder beside ``root`` and renames it when complete; others wait.

    Args:
        root (Path): Folder of the data set.
        recipe (dict): Parameters of the data set; must be representable as JSON.
        manifest (str): Name of the file in ``root`` that stores them.
        variable (str): Environment variable for another folder, for the message.
        draw (Callable[[Path], None]): Writes the data set into a folder.
        check (Callable[[Path], None]): Raises DataFolderError if a folder is incomplete.

    Returns:
        Path: ``root``.

    Raises:
        DataFolderError: If ``root`` holds something else, or is incomplete.
    """

    def is_there() -> bool:
        if not root.exists():
            return False
        path = root / manifest
        try:
            found = json.loads(path.read_text()) if path.is_file() else None
        except (ValueError, RecursionError) as error:
            found = f'invalid JSON, {error}'
        if found != recipe:
            raise DataFolderError(
                f'{root} exists already and is not the demo data set of the config (its {manifest}: '
                f'{found}, wanted: {recipe}). Move it away, or set {variable} to another folder.'
            )
        check(root)
        return True

    # The folder is renamed when complete, so reading it needs neither a lock nor write access.
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
    """Check the number of files in a folder of a generated data set.

    Args:
        folder (Path): The folder.
        pattern (str): Pattern of the files to count.
        wanted (int): Expected number of files.
        root (Path): Of the data set, for the message.

    Raises:
        DataFolderError: If the number differs.
    """
    there = len(list(folder.glob(pattern)))
    if there != wanted:
        raise DataFolderError(
            f'{folder} holds {there} of the {wanted} {Path(pattern).name} that the demo data set has. '
            f'Remove {root} to generate it again.'
        )
