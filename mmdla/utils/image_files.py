"""Image files from elsewhere: their size before they are decoded, and whether they are whole.

Decoders allocate what a header says, and OpenCV fills up what a cut JPEG lacks with grey.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Below the size from which on Pillow refuses an image by itself, so that an image which is not refused
# here is read by every library; as 8-bit BGR it is 384 MiB. Cityscapes' images have 2**21 pixels.
MAX_PIXELS = 2**27
VARIABLE = 'MMDLA_MAX_PIXELS'
# What photographs and label maps come as. Pillow knows others, EPS among them, for which it starts
# Ghostscript, whatever the name of the file ends in.
FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'PPM', 'GIF', 'JPEG2000')
# What a whole file ends in; others are decoded to find out.
ENDS = dict(JPEG=b'\xff\xd9', MPO=b'\xff\xd9', GIF=b'\0;')


class ImageFileError(ValueError):
    """A file is no image, not whole, or too large; the message names it and what would be right."""


def max_pixels() -> int:
    """Pixels up to which images are decoded: :data:`MAX_PIXELS`, or what ``MMDLA_MAX_PIXELS`` says.

    Raises:
        ValueError: If that is no positive whole number.
    """
    value = os.environ.get(VARIABLE) or str(MAX_PIXELS)
    if not value.isdecimal() or not 0 < len(value) < 19 or int(value) < 1:
        raise ValueError(f'{VARIABLE}={value!r} must be a number of pixels, such as {MAX_PIXELS}')
    return int(value)


def check_pixels(
    name: str | os.PathLike, size: Sequence[int], error: type[ValueError] = ImageFileError
) -> None:
    """Refuse a size of image before anything of it is allocated.

    Args:
        name (str | PathLike): What is of this size, for the message.
        size (Sequence[int]): Height and width; before them how many there are, if several.
        error (type[ValueError]): What to raise. Default: ImageFileError.

    Raises:
        ValueError: ``error``, if there are more pixels than :func:`max_pixels`.
    """
    count = 1
    for length in size:
        count *= int(length)
    limit = max_pixels()
    if count > limit:
        raise error(
            f'{name}: {"x".join(str(int(n)) for n in size)} are {count:,} pixels, more than the '
            f'{limit:,} up to which images are read; if it can be trusted, set {VARIABLE} to a larger '
            'number'
        )


@contextmanager
def open_image(path: str | os.PathLike, formats: Sequence[str] = FORMATS) -> Iterator:
    """An image file as Pillow's image, the header read and nothing decoded.

    Args:
        path (str | PathLike): The file.
        formats (Sequence[str]): Pillow's names of formats that it may be of. Default: :data:`FORMATS`.

    Yields:
        PIL.Image.Image: The image, not larger than :func:`max_pixels`.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If ``MMDLA_MAX_PIXELS`` is no number of pixels.
        ImageFileError: If it is no such image or too large; also for what Pillow raises while the image
            is decoded.
    """
    max_pixels()  # what is wrong with the variable is not wrong with the file
    with open(path, 'rb') as file:
        kind, parse = _parser(file, formats)
        try:
            image = parse(file, os.fspath(path))
            check_pixels(path, image.size[::-1])
            yield image
        except ImageFileError:
            raise
        except Exception as error:  # of a damaged file Pillow raises almost anything
            reason = str(error) or type(error).__name__
            raise ImageFileError(
                f'{os.fspath(path)}: truncated or damaged {kind} image ({reason}); fetch or export it '
                'again'
            ) from error


def check_image_file(path: str | os.PathLike, formats: Sequence[str] = FORMATS) -> tuple[int, int]:
    """Height and width of a whole image, before a camera's orientation is applied.

    A JPEG, PNG, GIF or WebP that ends as such files do is taken to be whole without decoding it; others
    are decoded.

    Args:
        path (str | PathLike): The file.
        formats (Sequence[str]): Pillow's names of formats that it may be of. Default: :data:`FORMATS`.

    Returns:
        tuple[int, int]: Height and width.

    Raises:
        OSError: If the file cannot be opened.
        ImageFileError: If it is no image, too large to decode, or not whole.
    """
    with open_image(path, formats) as image:
        width, height = image.size
        if not _ends_well(Path(path), image.format):
            image.load()
    return height, width


def read_bgr(path: str | os.PathLike) -> np.ndarray:
    """An image as OpenCV reads it, if :func:`check_image_file` lets it pass.

    Args:
        path (str | PathLike): The file.

    Returns:
        np.ndarray: uint8, (H, W, 3), BGR.

    Raises:
        OSError: If the file cannot be opened.
        ImageFileError: If it is no image, too large, or not whole.
    """
    import cv2

    check_image_file(path)
    try:
        values = cv2.imread(os.fspath(path))
    except cv2.error as error:
        raise ImageFileError(f'{os.fspath(path)}: not readable as an image: {error}') from error
    if values is None:
        raise ImageFileError(f'{os.fspath(path)}: not readable as an image by OpenCV')
    return values


def _parser(file: BinaryIO, formats: Sequence[str]) -> tuple[str, Callable]:
    """A file's format, and what of Pillow parses its header.

    Not ``Image.open``, whose limit is one of the process and cannot be raised for a file.
    """
    from PIL import (  # noqa: F401  they enter themselves in OPEN
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        Jpeg2KImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    prefix = file.read(16)
    for name in formats:
        factory, accept = Image.OPEN.get(name, (None, None))
        known = factory is not None and (accept is None or accept(prefix))
        if known and not isinstance(known, str):  # a reason why this Pillow cannot
            file.seek(0)
            return name, factory
    raise ImageFileError(
        f'{file.name}: '
        + (f'no {_words(formats)}; it starts with {prefix!r}' if prefix else 'the file is empty')
    )


def _words(formats: Sequence[str]) -> str:
    return f'{", ".join(formats[:-1])} or {formats[-1]}' if len(formats) > 1 else str(formats[0])


def _ends_well(path: Path, kind: str | None) -> bool:
    """Whether a file ends as one of this format does when it is whole."""
    with path.open('rb') as file:
        head = file.read(12)
        size = file.seek(0, os.SEEK_END)
        if kind == 'PNG':
            return _reaches_end(file, size)
        file.seek(max(0, size - 16))
        tail = file.read()
    if kind == 'WEBP':
        return int.from_bytes(head[4:8], 'little') + 8 == size
    return kind in ENDS and tail.endswith(ENDS[kind])


def _reaches_end(file: BinaryIO, size: int) -> bool:
    """Whether the chunks of a PNG follow each other up to that which ends it.

    Raises:
        ValueError: If one claims to be longer than the file: OpenCV allocates that, and fills it.
    """
    place = 8
    while place + 8 <= size:
        file.seek(place)
        length, kind = struct.unpack('>I4s', file.read(8))
        if kind == b'IEND':
            return True
        place += 12 + length
        if place > size:
            raise ValueError(f'a chunk of {length:,} bytes in a file of {size:,}')
    return False
