"""Boundary maps and annotations: as files, and as a segmentor's predictions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from .image_files import ImageFileError, check_image_file, check_pixels, open_image
from .mat_files import MatFileError, read_mat

PNG = ('PNG',)


class BoundaryFileError(ValueError):
    """A file is no boundary map or no annotation; the message names it and what would be right."""


def read_annotations(path: str | os.PathLike) -> np.ndarray:
    """The boundaries that annotators marked in an image.

    Args:
        path (str | PathLike): A ``.mat`` file as BSDS500 has them, with the cell array ``groundTruth``
            and in each cell a field ``Boundaries``; a one-channel PNG, where what is not 0 is boundary;
            or a folder of such PNGs, one an annotator.

    Returns:
        np.ndarray: Booleans of shape (annotators, H, W).

    Raises:
        FileNotFoundError: If there is no such file or folder.
        BoundaryFileError: If it is something else, or has more pixels than
            :func:`mmdla.utils.image_files.max_pixels`, of all annotators together.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.glob('*.png') if not p.name.startswith('.'))
        if not files:
            raise BoundaryFileError(f'{path}: the folder holds no PNG, one an annotator')
        maps = map(_read_label_png, files)
    elif not path.exists():
        raise FileNotFoundError(f'{path}: there is no such annotation')
    elif path.suffix.lower() == '.mat':
        maps = _read_mat(path)
    elif path.suffix.lower() == '.png':
        maps = map(_read_label_png, [path])
    else:
        raise BoundaryFileError(f'{path}: must be a .mat file, a PNG, or a folder of PNGs')
    kept: list[np.ndarray] = []
    for one in maps:
        if kept and one.shape != kept[0].shape:
            sizes = sorted({one.shape, kept[0].shape})
            raise BoundaryFileError(f'{path}: its annotations differ in size: {sizes}')
        kept.append(one)
        check_pixels(path, (len(kept), *one.shape), BoundaryFileError)
    return np.stack(kept)


def _read_mat(path: Path) -> Iterator[np.ndarray]:
    try:
        cells = read_mat(path, 'groundTruth')
    except MatFileError as error:
        raise BoundaryFileError(str(error)) from error
    except KeyError as error:
        raise BoundaryFileError(
            f'{path}: must hold a cell array groundTruth, but holds {error.args[0]}'
        ) from error
    cells = np.atleast_1d(cells)
    if not cells.size:
        raise BoundaryFileError(f'{path}: groundTruth is empty, it must have a cell an annotator')
    for number, cell in enumerate(cells.flat, start=1):
        # a cell array of structs, or a struct array
        if 'Boundaries' not in (getattr(getattr(cell, 'dtype', None), 'names', None) or ()):
            raise BoundaryFileError(f'{path}: groundTruth{{{number}}} has no field Boundaries')
        boundaries = cell['Boundaries']
        if isinstance(cell, np.ndarray):
            boundaries = boundaries.flat[0] if boundaries.size else boundaries
        name = f'{path}: groundTruth{{{number}}}.Boundaries'
        if boundaries.ndim != 2 or not prod(boundaries.shape) or boundaries.dtype.kind not in 'biuf':
            raise BoundaryFileError(
                f'{name} must be an image of numbers, but is of shape {boundaries.shape} and type '
                f'{boundaries.dtype}'
            )
        check_pixels(name, boundaries.shape, BoundaryFileError)
        if hasattr(boundaries, 'toarray'):  # stored sparse
            try:
                boundaries.check_format()  # indices beyond the shape are written to
            except ValueError as error:
                raise BoundaryFileError(f'{name} is a damaged sparse matrix: {error}') from error
            boundaries = boundaries.toarray()
        if not np.isfinite(boundaries).all():
            raise BoundaryFileError(f'{name} has NaN or infinity')
        yield boundaries != 0


def _read_label_png(path: Path) -> np.ndarray:
    try:
        with open_image(path, PNG) as image:
            labels = np.asarray(image)
    except ImageFileError as error:
        raise BoundaryFileError(str(error)) from error
    if labels.ndim != 2:
        raise BoundaryFileError(
            f'{path}: labels must have one channel, where what is not 0 is boundary; these have '
            f'{labels.shape[2]}'
        )
    return labels != 0


def read_boundary_map(path: str | os.PathLike) -> np.ndarray:
    """A predicted boundary map.

    Args:
        path (str | PathLike): A one-channel PNG of 8 or 16 bit, scaled by the largest value of its
            type, or a ``.npy`` file of values from 0 to 1.

    Returns:
        np.ndarray: Probabilities, float64 of shape (H, W): thresholds fall between exact values.

    Raises:
        FileNotFoundError: If there is no such file.
        BoundaryFileError: If it is something else, or has more pixels than
            :func:`mmdla.utils.image_files.max_pixels`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such boundary map')
    if path.suffix.lower() == '.npy':
        return _read_npy(path)
    if path.suffix.lower() != '.png':
        raise BoundaryFileError(f'{path}: a boundary map must be a .png or .npy file')
    try:
        check_image_file(path, PNG)
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except ImageFileError as error:
        raise BoundaryFileError(str(error)) from error
    except cv2.error as error:
        raise BoundaryFileError(f'{path}: not readable as a PNG: {error}') from error
    if values is None:
        raise BoundaryFileError(f'{path}: not readable as a PNG')
    if values.ndim != 2 or values.dtype not in (np.uint8, np.uint16):
        raise BoundaryFileError(
            f'{path}: a boundary map must be a PNG of one channel of 8 or 16 bit; this is of shape '
            f'{values.shape} and type {values.dtype}'
        )
    return values / float(np.iinfo(values.dtype).max)


def _read_npy(path: Path) -> np.ndarray:
    try:
        # Mapped, so that nothing is allocated for what a header claims; a short file is refused.
        values = np.load(path, mmap_mode='r', allow_pickle=False)
    except Exception as error:  # the header is Python's text, and refused in as many ways
        raise BoundaryFileError(f'{path}: not readable as .npy: {error}') from error
    if not isinstance(values, np.ndarray):
        values.close()
        raise BoundaryFileError(f'{path}: is an archive of arrays, .npz; must be one array, .npy')
    check_pixels(path, values.shape, BoundaryFileError)
    return check_boundary_map(values, str(path))


def check_boundary_map(values: np.ndarray, name: str) -> np.ndarray:
    """A map as float64, if it is one.

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


def boundary_probability(sample: Mapping) -> Tensor:
    r"""The probability of a boundary at each pixel, of a prediction of mmseg.

    .. math:: p = \mathrm{softmax}(z)_1

    Args:
        sample (Mapping): A ``SegDataSample``, or that as a dict, with ``seg_logits``: logits of two
            classes, the second the boundary, or one channel, which mmseg has put through the sigmoid.

    Returns:
        Tensor: Of shape (H, W), float32.

    Raises:
        ValueError: If there are no ``seg_logits`` or they have other channels.
    """
    logits = sample.get('seg_logits')
    if logits is None:
        raise ValueError('a data sample lacks seg_logits: they come from a segmentor of mmseg')
    data: Tensor = logits['data'] if isinstance(logits, Mapping) else logits.data
    data = data.detach().float()
    if data.ndim != 3 or data.shape[0] not in (1, 2):
        raise ValueError(
            f'seg_logits of shape {tuple(data.shape)}: a boundary detector has two classes (none '
            'and boundary) or one output channel'
        )
    return data[0] if data.shape[0] == 1 else torch.softmax(data, 0)[1]


def _find(folder: Path, suffixes: tuple[str, ...], folders: bool) -> dict[str, Path]:
    """Files of a folder by stem, and folders in it by name.

    Raises:
        ValueError: If there are none, two of one name, or folders where none are wanted.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder} is no folder')
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.'):
            continue
        if path.is_dir() and not folders:
            raise ValueError(f'{path} is a folder: maps must lie in {folder} itself')
        if not path.is_dir() and path.suffix.lower() not in suffixes:
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise ValueError(f'{found[name]} and {path} are of one image: keep one of them')
        found[name] = path
    if not found:
        kinds = ', '.join(suffixes) + (' or folders of PNGs' if folders else '')
        raise ValueError(f'{folder} holds no {kinds}')
    return found


def pair_boundary_files(predictions: Path, annotations: Path) -> dict[str, tuple[Path, Path]]:
    """The boundary maps of a folder with the annotations of another, which have the same names.

    Args:
        predictions (Path): Folder of ``NAME.png`` and ``NAME.npy``.
        annotations (Path): Folder of ``NAME.mat``, ``NAME.png``, and folders ``NAME``.

    Returns:
        dict[str, tuple[Path, Path]]: By name, in order of name.

    Raises:
        ValueError: If one of them has no other, or there are none.
    """
    maps = _find(predictions, ('.png', '.npy'), folders=False)
    truths = _find(annotations, ('.mat', '.png'), folders=True)
    problems = [
        f'{truths[name]} has no prediction in {predictions}' for name in truths if name not in maps
    ]
    problems += [
        f'{maps[name]} has no annotation in {annotations}' for name in maps if name not in truths
    ]
    report_problems(problems)
    return {name: (maps[name], truths[name]) for name in sorted(truths)}


def report_problems(problems: list[str]) -> None:
    """Raise ValueError with the first of the problems, if there are any."""
    shown = 10
    if problems:
        more = len(problems) - shown
        listed = '\n  '.join(problems[:shown] + ([f'and {more} more'] if more > 0 else []))
        raise ValueError(f'{len(problems)} problem{"s" if len(problems) > 1 else ""}:\n  {listed}')
