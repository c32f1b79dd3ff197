"""One variable of a ``.mat`` file from elsewhere, its structure checked before SciPy reads it.

SciPy allocates what dimensions claim, inflates whatever is compressed, and ends the process (by a
segmentation fault) at cells in cells, some ten thousand deep, and at numbers of a type that it does not
know.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from math import prod
from typing import Any

from .image_files import VARIABLE, max_pixels

# Types of elements and classes of arrays, from MathWorks' description of MAT-files of level 5.
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR, SPARSE = 1, 2, 4, 5
NUMBERS = range(6, 16)
# Types of numbers and text. SciPy looks others up beyond the end of its table.
TYPES = {*range(1, 8), 9, 12, 13, 16, 17, 18}
COMPLEX = 0x08  # among the flags
# BSDS500's file has a struct in a cell; SciPy calls itself for each level.
LEVELS = 16
# An array costs Python's objects, however few bytes it has in the file.
ARRAYS = 2**16
BYTES_PER_PIXEL = 4
CHUNK = 2**20
# SciPy guesses a file's level by its first bytes; what is checked is read as what it was checked as.
HEADERS = {
    order: b'MATLAB 5.0 MAT-file'.ljust(116) + bytes(8) + struct.pack(f'{order}H', 0x100) + mark
    for order, mark in (('<', b'IM'), ('>', b'MI'))
}


class MatFileError(ValueError):
    """A file is no ``.mat`` file that can be read; the message names it."""


def read_mat(path: str | os.PathLike, variable: str) -> Any:
    """A variable of a MAT-file of level 5 (MATLAB's ``-v6`` and ``-v7``), as SciPy returns it.

    Args:
        path (str | PathLike): The file.
        variable (str): Name of a variable of cells, structs, numbers and text.

    Returns:
        ndarray: See :func:`scipy.io.loadmat`.

    Raises:
        OSError: If the file cannot be opened.
        KeyError: If it holds no such variable; with the names of those that it does.
        MatFileError: If it is no such file, damaged, holds objects in the variable, or more bytes than
            four times :func:`mmdla.utils.image_files.max_pixels`.
    """
    from scipy.io import loadmat

    name = os.fspath(path)
    with open(path, 'rb') as file:
        try:
            order = _byte_order(file.read(128))
            names = []
            for content in _elements(file, order):
                matrix = _Matrix(content, order)
                names.append(matrix.name)
                if matrix.name == variable:
                    matrix.check()
                    checked = io.BytesIO(HEADERS[order] + content[: matrix.end])
                    return loadmat(checked, variable_names=[variable])[variable]
        except Exception as error:  # of what is still wrong SciPy raises almost anything
            reason = str(error) or type(error).__name__
            raise MatFileError(f'{name}: not readable as a .mat file: {reason}') from error
    raise KeyError(sorted(names))


def _byte_order(header: bytes) -> str:
    """How a file writes numbers.

    Raises:
        ValueError: If it is not of level 5.
    """
    order = {b'IM': '<', b'MI': '>'}.get(header[126:128])
    version = struct.unpack(f'{order}H', header[124:126])[0] if order else 0
    if version == 0x200:
        raise ValueError('it is of version 7.3, which is HDF5; save it in MATLAB with -v7')
    if version != 0x100:
        raise ValueError('its header is not that of MATLAB 5 to 7')
    return order


def _elements(file: io.BufferedReader, order: str) -> Iterator[bytes]:
    """The elements of a file, inflated, one after the other.

    Raises:
        ValueError: If there are more bytes in all than are allowed, or fewer than announced.
    """
    limit = BYTES_PER_PIXEL * max_pixels()
    left = os.fstat(file.fileno()).st_size - 128
    while tag := file.read(8):
        left -= 8
        if len(tag) < 8:
            raise ValueError('it is cut off')
        kind, size = struct.unpack(f'{order}II', tag)
        if size > left:
            raise ValueError('it is cut off')
        left -= size
        if kind == MATRIX:
            content = tag + (file.read(size) if size <= limit else b'')
            limit -= size
        elif kind == COMPRESSED:
            content = _inflate(file, size, limit)
            limit -= len(content)
        else:
            raise ValueError(f'it has an element of type {kind} where a variable should be')
        if limit < 0:
            raise ValueError(
                f'it holds more than {BYTES_PER_PIXEL * max_pixels():,} bytes, up to which .mat files '
                f'are read; if it can be trusted, set {VARIABLE}, a quarter of that, to a larger number'
            )
        yield content


def _inflate(file: io.BufferedReader, size: int, limit: int) -> bytes:
    """What is compressed in so many bytes of a file; if it is more than the limit, a part above it."""
    engine = zlib.decompressobj()
    found = bytearray()
    while not engine.eof and len(found) <= limit:
        if not engine.unconsumed_tail:
            given = file.read(min(CHUNK, size))
            size -= len(given)
            if not given:
                raise ValueError('it is cut off')
        found += engine.decompress(engine.unconsumed_tail or given, CHUNK)
    file.seek(size, os.SEEK_CUR)
    return bytes(found)


class _Matrix:
    """A matrix element, of which nothing is read but what tells sizes.

    Args:
        content (bytes): From its tag on.
        order (str): ``<`` or ``>``.

    Attributes:
        name (str): Of the variable.

    Raises:
        ValueError: If it does not begin as one.
    """

    def __init__(self, content: bytes, order: str):
        self.content = content
        self.order = order
        self.arrays = 0
        kind, size = self._numbers(0, 2)
        if kind != MATRIX or size + 8 > len(content):
            raise ValueError('it has an element that is no variable, or one that is cut off')
        self.end = size + 8
        _, _, place = self._element(8, self.end)  # flags
        _, _, place = self._element(place, self.end)  # dimensions
        (start, stop), _, _ = self._element(place, self.end)
        self.name = content[start:stop].decode('latin1')

    def check(self) -> None:
        """Look at every array in it.

        Raises:
            ValueError: If one claims more than its bytes can hold, is an object, or lies too deep.
        """
        self._array(0, self.end, 1)

    def _numbers(self, start: int, count: int) -> tuple[int, ...]:
        if start + 4 * count > len(self.content):
            raise ValueError('it is cut off')
        return struct.unpack_from(f'{self.order}{count}I', self.content, start)

    def _element(self, start: int, end: int) -> tuple[tuple[int, int], int, int]:
        """Where the data of an element lie, of which type they are, and where the next begins."""
        (first,) = self._numbers(start, 1)
        if first >> 16:  # small: type, size and up to four bytes in eight
            kind, size, place, after = first & 0xFFFF, first >> 16, start + 4, start + 8
            fits = size <= 4
        else:
            kind, size = self._numbers(start, 2)
            place, after = start + 8, start + 8 + (size + 7) // 8 * 8
            fits = True
        if not fits or after > end:
            raise ValueError('it is cut off, or an array in it claims more bytes than there are')
        return (place, place + size), kind, after

    def _array(self, start: int, end: int, level: int) -> int:
        """Check a matrix and those in it; where the next begins."""
        self.arrays += 1
        if self.arrays > ARRAYS:
            raise ValueError(f'it has more than {ARRAYS} arrays in cells and fields')
        if level > LEVELS:
            raise ValueError(f'it has cells in cells, more than {LEVELS} levels of them')
        kind, size = self._numbers(start, 2)
        stop = start + 8 + size
        if kind != MATRIX or stop > end:
            raise ValueError('it is cut off, or a cell or field in it is no array')
        if not size:  # an empty one
            return stop
        (place, _), _, after = self._element(start + 8, stop)
        (flags,) = self._numbers(place, 1)
        (place, last), _, after = self._element(after, stop)
        dims = struct.unpack_from(f'{self.order}{(last - place) // 4}i', self.content, place)
        count = prod(dims)
        _, _, after = self._element(after, stop)  # name
        cls = flags & 0xFF
        # Any number takes a byte or more, an array in a cell a tag.
        room = stop - after if cls not in (CELL, STRUCT) else (stop - after) // 8
        if len(dims) < 2 or min(dims) < 0 or (cls != SPARSE and count > room):
            raise ValueError(f'it has an array that claims to be {"x".join(map(str, dims))}')
        if cls == CELL:
            after = self._arrays(count, after, stop, level)
        elif cls == STRUCT:
            (place, _), _, after = self._element(after, stop)
            (length,) = self._numbers(place, 1)
            (first, last), _, after = self._element(after, stop)
            if not 0 < length < 2**16:
                raise ValueError(f'it has a struct whose fields have names of {length} bytes')
            fields = (last - first) // length
            after = self._arrays(count * fields, after, stop, level)
        elif cls in (CHAR, SPARSE, *NUMBERS):
            parts = 1 + 2 * (cls == SPARSE) + bool(flags >> 8 & COMPLEX)
            for _ in range(parts):
                _, kind, after = self._element(after, stop)
                if kind not in TYPES:
                    raise ValueError(f'it has numbers of a type {kind}, which there is not')
        else:
            raise ValueError(f'it has an object or a function (class {cls}), which is no data')
        if after != stop:
            raise ValueError('an array in it has another size than it claims')
        return stop

    def _arrays(self, count: int, start: int, stop: int, level: int) -> int:
        for _ in range(count):
            start = self._array(start, stop, level + 1)
        return start
