"""Images as OpenCV reads them, with the file's name in the error."""

from __future__ import annotations

import os

import cv2
import numpy as np


class ImageFileError(ValueError):
    """OpenCV cannot read a file as an image; the message names the file."""


def read_image(path: str | os.PathLike, flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """Read an image of any format and depth that OpenCV reads.

    Args:
        path (str | PathLike): The file.
        flag (int): OpenCV's reading mode. Default: ``cv2.IMREAD_COLOR``, which returns 8-bit BGR and
            applies the orientation that a camera has stored.

    Returns:
        np.ndarray: Of shape (H, W, 3) by default.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImageFileError: If OpenCV cannot read it, or it has more pixels than the environment variable
            ``OPENCV_IO_MAX_IMAGE_PIXELS`` allows.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{os.fspath(path)}: no such image')
    try:
        values = cv2.imread(os.fspath(path), flag)
    except cv2.error as error:
        raise ImageFileError(f'{os.fspath(path)}: OpenCV cannot read this image: {error}') from error
    if values is None:
        raise ImageFileError(f'{os.fspath(path)}: OpenCV cannot read this file as an image')
    return values
