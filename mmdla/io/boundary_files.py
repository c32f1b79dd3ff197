"""Reads and writes boundary maps, and reads annotations."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from .files import list_files
from .images import ImageFileError, read_image

# Formats of labels. They are lossless: lossy ones change the zeros beside a boundary.
LABELS = ('.png', '.bmp', '.tif', '.tiff')
LABEL_FORMATS = ('PNG', 'BMP', 'TIFF')
MAPS = ('.png', '.npy', '.mat', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')
# The classes of MATLAB's arrays of numbers.
NUMBERS = (
    'double',
    'single',
    'sparse',
    'logical',
    *(f'{u}int{n}' for u in ('', 'u') for n in (8, 16, 32, 64)),
)
SHOWN = 10

logger = logging.getLogger(__name__)


class BoundaryFileError(ValueError):
    """A file is no boundary map or no annotation; the message names it and what would be right."""


def read_annotations(path: str | os.PathLike) -> np.ndarray:
    """Read the boundaries that annotators marked in an image.

    Args:
        path (str | PathLike): A ``.mat`` file as BSDS500 has them, with the cell array ``groundTruth``
            and in each cell a field ``Boundaries``; a grey PNG, BMP or TIFF, where every value but 0
            is boundary; or a folder of such images, one for each annotator.

    Returns:
        np.ndarray: Booleans of shape (annotators, H, W).

    Raises:
        FileNotFoundError: If there is no such file or folder.
        BoundaryFileError: If it cannot be read as annotations.
    """
    return _read_stack(path) != 0


def read_grey_annotations(path: str | os.PathLike) -> np.ndarray:
    """Read annotations whose grey is the share of annotators who marked a pixel, as HED's are.

    Args:
        path (str | PathLike): As for :func:`read_annotations`.

    Returns:
        np.ndarray: float32 of shape (annotators, H, W), from 0 to 1: grey levels over the largest value
        of their type (255 or 65535), 1 where one is marked in a ``.mat`` or an image of 1 bit.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        BoundaryFileError: If it is something else.
    """
    values = _read_stack(path)
    if values.dtype == bool:
        return values.astype(np.float32)
    if values.dtype not in (np.uint8, np.uint16):
        raise BoundaryFileError(f'{path}: grey labels must be of 8 or 16 bit, but are {values.dtype}')
    if values.max(initial=0) == 1:
        warnings.warn(
            f'{path}: the largest value of these grey labels is 1 of {np.iinfo(values.dtype).max}; if '
            "1 stands for a boundary, load them with label='union'",
            stacklevel=2,
        )
    return values / np.float32(np.iinfo(values.dtype).max)


def _read_stack(path: str | os.PathLike) -> np.ndarray:
    """What each annotator marked, as the file has it, (annotators, H, W)."""
    path = Path(path)
    if path.is_dir():
        files = sorted(
            p for p in path.iterdir() if p.suffix.lower() in LABELS and not p.name.startswith('.')
        )
        if not files:
            raise BoundaryFileError(f'{path}: the folder holds no image ({", ".join(LABELS)})')
        maps = [_read_labels(file) for file in files]
    elif not path.exists():
        raise FileNotFoundError(f'{path}: no such annotation')
    elif path.suffix.lower() == '.mat':
        maps = list(_read_mat(path))
    elif path.suffix.lower() in LABELS:
        maps = [_read_labels(path)]
    else:
        raise BoundaryFileError(
            f'{path}: must be a .mat file, an image ({", ".join(LABELS)}), or a folder of images'
        )
    sizes = {one.shape for one in maps}
    if len(sizes) > 1:
        raise BoundaryFileError(f'{path}: its annotations differ in size: {sorted(sizes)}')
    return np.stack(maps)


@contextmanager
def _reading_mat(path: Path) -> Iterator[None]:
    """Turn what SciPy raises for a .mat file into a BoundaryFileError."""
    try:
        yield
    except NotImplementedError as error:
        raise BoundaryFileError(
            f'{path}: SciPy cannot read version 7.3, which is HDF5; save it with -v7 ({error})'
        ) from error
    except Exception as error:  # SciPy raises almost anything for other files
        raise BoundaryFileError(f'{path}: SciPy cannot read it as a .mat file: {error}') from error


def _read_mat(path: Path) -> Iterator[np.ndarray]:
    from scipy.io import loadmat, whosmat

    with _reading_mat(path):
        cells = loadmat(path, variable_names=['groundTruth'], appendmat=False).get('groundTruth')
        names = [] if cells is not None else [name for name, *_ in whosmat(path, appendmat=False)]
    if cells is None:
        raise BoundaryFileError(f'{path}: must hold a cell array groundTruth, but holds {names}')
    if not np.size(cells):
        raise BoundaryFileError(f'{path}: groundTruth is empty; it must have a cell for each annotator')
    for number, cell in enumerate(np.atleast_1d(cells).flat, start=1):
        # Cells hold structs; an array of structs has the fields itself.
        if 'Boundaries' not in (getattr(getattr(cell, 'dtype', None), 'names', None) or ()):
            raise BoundaryFileError(f'{path}: groundTruth{{{number}}} has no field Boundaries')
        boundaries = cell['Boundaries']
        if isinstance(cell, np.ndarray):
            boundaries = boundaries.flat[0] if boundaries.size else boundaries
        name = f'{path}: groundTruth{{{number}}}.Boundaries'
        if boundaries.ndim != 2 or 0 in boundaries.shape or boundaries.dtype.kind not in 'biuf':
            raise BoundaryFileError(
                f'{name} must be an image of numbers; its shape is {boundaries.shape} and its type '
                f'{boundaries.dtype}'
            )
        if hasattr(boundaries, 'toarray'):  # stored sparse
            boundaries = boundaries.toarray()
        if not np.isfinite(boundaries).all():
            raise BoundaryFileError(f'{name} has NaN or infinity')
        yield boundaries != 0


def _read_mat_map(path: Path) -> np.ndarray:
    """The only array of numbers of a .mat file."""
    from scipy.io import loadmat, whosmat

    with _reading_mat(path):
        listed = whosmat(path, appendmat=False)
        names = [name for name, shape, kind in listed if kind in NUMBERS and min(shape) > 1]
        found = loadmat(path, variable_names=names, appendmat=False) if len(names) == 1 else {}
    if len(names) != 1:
        raise BoundaryFileError(
            f'{path}: must hold one array of numbers, the map; it holds {[name for name, *_ in listed]}'
        )
    values = found[names[0]]
    return values.toarray() if hasattr(values, 'toarray') else values  # stored sparse


def _read_labels(path: Path) -> np.ndarray:
    try:
        # Named formats: for PostScript, whatever its suffix, Pillow would start Ghostscript.
        with Image.open(path, formats=LABEL_FORMATS) as image:
            labels = np.asarray(image)
    except Exception as error:  # Pillow raises almost anything for a corrupt file
        raise BoundaryFileError(f'{path}: Pillow cannot read it as labels: {error}') from error
    return _grey(labels, path)


def _grey(values: np.ndarray, path: Path) -> np.ndarray:
    """The grey values of an image, which may have three equal channels and an alpha channel.

    Raises:
        BoundaryFileError: If the channels differ.
    """
    if values.ndim == 2:
        return values
    channels = values[..., :3] if values.shape[2] > 2 else values[..., :1]
    if (channels != channels[..., :1]).any():
        raise BoundaryFileError(f'{path}: must be grey; its {channels.shape[2]} channels differ')
    return channels[..., 0]


def read_boundary_map(path: str | os.PathLike) -> np.ndarray:
    """Read a predicted boundary map.

    Args:
        path (str | PathLike): A ``.npy`` file of values from 0 to 1; a ``.mat`` file with one array of
            such values, under any name; or an image that OpenCV reads, grey or with three equal
            channels, of 8 or 16 bit, which is divided by the largest value of its type, or of floats
            from 0 to 1.

    Returns:
        np.ndarray: Probabilities, float64 of shape (H, W), so that thresholds compare exactly.

    Raises:
        FileNotFoundError: If there is no such file.
        BoundaryFileError: If it cannot be read as a boundary map.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such boundary map')
    if path.suffix.lower() == '.npy':
        try:
            # Mapped, so that nothing is allocated for more values than the file has.
            values = np.load(path, mmap_mode='r', allow_pickle=False)
        except Exception as error:  # the header is Python code and may fail in any way
            raise BoundaryFileError(f'{path}: NumPy cannot read it as .npy: {error}') from error
        if not isinstance(values, np.ndarray):
            values.close()
            raise BoundaryFileError(f'{path}: is an archive of arrays, .npz; must be one array, .npy')
    elif path.suffix.lower() == '.mat':
        values = _read_mat_map(path)
    elif path.suffix.lower() in MAPS:
        try:
            values = _grey(read_image(path, cv2.IMREAD_UNCHANGED), path)
        except ImageFileError as error:
            raise BoundaryFileError(str(error)) from error
        if values.dtype in (np.uint8, np.uint16):
            values = values / float(np.iinfo(values.dtype).max)
    else:
        raise BoundaryFileError(f'{path}: a boundary map must be one of {", ".join(MAPS)}')
    return check_boundary_map(values, str(path))


def average_boundary_maps(paths: Sequence[str | os.PathLike]) -> np.ndarray:
    """Read the maps that several predictions gave of an image, such as of RGB and HHA; their mean.

    Args:
        paths (Sequence[str | PathLike]): One or more, as :func:`read_boundary_map` takes them.

    Returns:
        np.ndarray: Probabilities, float64 of shape (H, W).

    Raises:
        FileNotFoundError: If a file is not there.
        BoundaryFileError: If one is no map, or they differ in size.
    """
    maps = [read_boundary_map(path) for path in paths]
    for path, one in zip(paths, maps):
        if one.shape != maps[0].shape:
            raise BoundaryFileError(
                f'{path} is of size {one.shape}, {paths[0]} of size {maps[0].shape} (height, width): '
                'maps must be of one size to be averaged'
            )
    return maps[0] if len(maps) == 1 else np.mean(maps, axis=0)


def check_boundary_map(values: np.ndarray, name: str) -> np.ndarray:
    """Return a map as float64.

    Raises:
        BoundaryFileError: If it is not two-dimensional or has values outside 0 to 1, or NaN.
    """
    if values.ndim != 2 or not values.size or values.dtype.kind not in 'fbui':
        raise BoundaryFileError(
            f'{name}: a boundary map must be numbers of shape (H, W); this is of shape {values.shape} '
            f'and type {values.dtype}'
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise BoundaryFileError(f'{name}: values must be from 0 to 1; they go from {low:g} to {high:g}')
    return values.astype(np.float64)


def write_boundary_map(path: str | os.PathLike, probability: np.ndarray) -> None:
    """Write probabilities as a PNG of 16 bit.

    Raises:
        OSError: If the file cannot be written.
    """
    values = np.rint(check_boundary_map(probability, 'probability') * 65535)
    if not cv2.imwrite(str(path), values.astype(np.uint16)):
        raise OSError(f'{path}: could not be written')


def pair_boundary_files(predictions: Path, annotations: Path) -> dict[str, tuple[Path, Path]]:
    """Pair the boundary maps below a folder with the annotations of the same path below another.

    Suffixes may be in any case. Links are followed, hidden files ignored. Maps without an annotation
    are not scored; a warning says how many there are and names them.

    Args:
        predictions (Path): Holds ``NAME.png`` or another image, ``NAME.npy`` or ``NAME.mat``, NAME with
            or without folders.
        annotations (Path): Holds ``NAME.mat``, ``NAME.png``, or a folder ``NAME`` of images.

    Returns:
        dict[str, tuple[Path, Path]]: By name, in order of name.

    Raises:
        ValueError: If an annotation has no map, two files are of one name, or there are none.
    """
    maps: dict[str, Path] = {}
    for path in _files(predictions, MAPS):
        _enter(maps, _name(path.relative_to(predictions)), path)
    folders = {str(parent) for name in maps for parent in PurePosixPath(name).parents}
    truths: dict[str, Path] = {}
    for path in _files(annotations, ('.mat', *LABELS)):
        relative = path.relative_to(annotations)
        name, parent = _name(relative), relative.parent.as_posix()
        # A folder has either a file for each annotator of one image or, like the maps' folder, images.
        if path.suffix.lower() == '.mat' or name in maps or (parent in folders and parent not in maps):
            _enter(truths, name, path)
        elif truths.get(parent) != path.parent:
            _enter(truths, parent, path.parent)
    elsewhere = {PurePosixPath(name).name: path for name, path in maps.items()}
    problems = []
    for name in sorted(truths.keys() - maps.keys()):
        near = elsewhere.get(PurePosixPath(name).name)
        hint = f'; {near} is in another folder' if near else ''
        problems.append(f'{truths[name]} has no prediction {predictions / name}.*{hint}')
    report_problems(problems)
    extra = [str(maps[name]) for name in maps if name not in truths]
    if extra:
        shown = ', '.join(extra[:SHOWN]) + (', ...' if len(extra) > SHOWN else '')
        logger.warning(
            f'{len(extra)} of {len(maps)} boundary maps have no annotation in {annotations} and are '
            f'not scored: {shown}'
        )
    return {name: (maps[name], truths[name]) for name in sorted(truths)}


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f'{folder} is no folder')
    found = list_files(folder, suffixes)
    if not found:
        raise ValueError(f'{folder} holds no {", ".join(suffixes)}')
    return found


def _name(relative: Path) -> str:
    return relative.with_suffix('').as_posix()


def _enter(found: dict[str, Path], name: str, path: Path) -> None:
    if name in found:
        raise ValueError(f'{found[name]} and {path} are of one image: keep one of them')
    found[name] = path


def report_problems(problems: list[str]) -> None:
    """Raise ValueError with the first of the problems, if there are any."""
    if problems:
        more = len(problems) - SHOWN
        listed = '\n  '.join(problems[:SHOWN] + ([f'and {more} more'] if more > 0 else []))
        raise ValueError(f'{len(problems)} problem{"s" if len(problems) > 1 else ""}:\n  {listed}')
