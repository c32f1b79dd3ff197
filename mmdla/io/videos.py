"""Videos and cameras as OpenCV reads them, with the file's name in the error."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np


class VideoFileError(ValueError):
    """OpenCV cannot read a video or camera, or cannot write a video; the message names it."""


class VideoFrames:
    """The frames of a video file or a camera, once, one after another.

    It warns if a file ends before the number of frames that it states.

    Args:
        source (str | PathLike | int): A file, or the number of a camera.
        max_frames (int, optional): Stop after this many. Default: None, at the end of the file; a
            camera has none.

    Attributes:
        name (str): The file's stem, or ``camera_0``.
        fps (float): Frames a second; 25 where the source states none, as many cameras.
        count (int): How many frames there will be, as far as the source states it, else 0.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If ``max_frames`` is not a positive number.
        VideoFileError: If OpenCV cannot open it.
    """

    def __init__(self, source: str | os.PathLike | int, max_frames: int | None = None):
        if max_frames is not None and (type(max_frames) is not int or max_frames < 1):
            raise ValueError(f'max_frames={max_frames!r}: must be a whole number, 1 or more')
        self.is_camera = isinstance(source, int)
        self.source = f'camera {source}' if isinstance(source, int) else os.fspath(source)
        self.name = f'camera_{source}' if self.is_camera else Path(self.source).stem
        self.max_frames = max_frames
        if not self.is_camera and not os.path.isfile(self.source):
            raise FileNotFoundError(f'{self.source}: no such video')
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else self.source)
        if not self._capture.isOpened():
            what = 'open this camera' if self.is_camera else 'read this file as a video'
            raise VideoFileError(f'{self.source}: OpenCV cannot {what}')
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._stated = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.count = min(self._stated, max_frames or self._stated) or max_frames or 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """BGR values of 8 bit, (H, W, 3).

        Raises:
            VideoFileError: If there is no frame.
        """
        number = 0
        try:
            while number != self.max_frames:
                found, frame = self._capture.read()
                if not found:
                    break
                number += 1
                yield frame
        finally:
            self._capture.release()
        if not number:
            raise VideoFileError(f'{self.source}: OpenCV reads no frame of it')
        if number < self._stated and number != self.max_frames:
            warnings.warn(
                f'{self.source}: ends after {number} frames, but states {self._stated}', stacklevel=2
            )


class VideoWriter:
    """Writes frames as an MP4 video (MPEG-4).

    Args:
        path (str | PathLike): The file, ``.mp4``. It must not exist.
        fps (float): Frames a second.

    Raises:
        FileExistsError: If the file exists already.
    """

    def __init__(self, path: str | os.PathLike, fps: float):
        self.path = Path(path)
        if self.path.exists():
            raise FileExistsError(f'{self.path} exists already; choose another out_dir')
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, BGR of 8 bit; all must be of the size of the first.

        Raises:
            VideoFileError: If OpenCV cannot write the format.
        """
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self.path), codec, self.fps, frame.shape[1::-1])
        if not self._writer.isOpened():
            raise VideoFileError(f'{self.path}: this OpenCV cannot write MPEG-4 videos')
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
