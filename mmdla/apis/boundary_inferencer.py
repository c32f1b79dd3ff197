"""Inferencer for boundary detection."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS
from mmengine.utils import track_iter_progress

from ..io.boundary_files import write_boundary_map
from ..io.files import list_files
from ..io.videos import VideoFrames, VideoWriter
from ..utils.predictions import boundary_probability
from ..visualization.images import to_bgr8
from .seg_inferencer import SegInferencer

# Suffixes of images in folders. A single file is read whatever its suffix.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.webp', '.jp2', '.gif')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
COLOUR = (40, 200, 255)  # BGR
Image = str | os.PathLike | np.ndarray


class BoundaryInferencer(SegInferencer):
    """Predicts boundary maps of images of any size, one at a time.

    Files are read as the config's test pipeline reads them (``imdecode_backend``, ``color_type``).

    Args:
        model (str | Config): Name of a config of this project (``'dla34_bsds500'``), a path, or a
            config, of a segmentor with two classes or one output channel.
        weights (str, optional): Path or address. Default: the published ones of ``model``.
        tta (bool): Average the config's augmentations, ``tta_pipeline``. Default: False.
        scales (Sequence[float], optional): Resize the image, as the test pipeline passes it on, by each
            of these factors, and average the probabilities: HED's and RCF's multi-scale testing has
            ``(0.5, 1, 1.5)``. Default: None, one prediction.
        **kwargs: Of :class:`SegInferencer`: ``device`` ...

    Raises:
        ValueError: If ``model`` is unknown or not a boundary detector; if it has no published weights
            and none are given; if ``scales`` are impossible or meet ``tta``, whose pipeline has its
            own; or, with ``tta``, if the config's ``tta_model`` is not for boundaries.
        FileNotFoundError, CheckpointError: If the weights do not exist, are not a checkpoint, or belong
            to another network.

    Example:
        >>> from mmdla.apis import BoundaryInferencer
        >>> inferencer = BoundaryInferencer('dla34_bsds500', 'work_dirs/dla34_bsds500/epoch_1200.pth')
        >>> probability = inferencer('street.png')['predictions']  # (H, W), float32
    """

    task = 'Boundary Detection'
    model: Any

    def __init__(
        self,
        model: str | Config,
        weights: str | None = None,
        tta: bool = False,
        scales: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        self.tta = tta
        self.scales = scales
        if scales is not None:
            if not len(scales) or not min(scales) > 0:
                raise ValueError(f'scales={scales}: must be numbers above 0, factors of the size')
            if tta:
                raise ValueError(
                    f'scales={scales} and tta=True: tta_pipeline of the config has scales of its own; '
                    'leave one of them out'
                )
        super().__init__(model, weights, **kwargs)
        self.show_progress = False
        channels = getattr(self.model, 'out_channels', None)
        if channels not in (1, 2):
            raise ValueError(
                f'model={model if isinstance(model, str) else type(self.model).__name__!r}: is no '
                f'boundary detector, which has 1 or 2 output channels; this has {channels}'
            )
        if tta:
            settings = self.cfg.get('tta_model') or {}
            if not settings or _kind(settings) != 'BoundaryTTAModel':
                raise ValueError(
                    f'tta=True: tta_model of the config must be a BoundaryTTAModel, but is {settings}'
                )
            self.model = MODELS.build(dict(**settings, module=self.model)).eval()
        elif scales is not None:
            merge = dict(type='mmdla.BoundaryTTAModel', module=self.model)
            self.model = MODELS.build(merge).eval()

    def __call__(
        self,
        inputs: Image | list[Image],
        nms: bool = False,
        out_dir: str | os.PathLike | None = None,
        threshold: float = 0.5,
    ) -> dict:
        """Predict boundary maps and return them; for many images see :meth:`write`.

        Args:
            inputs (str | PathLike | ndarray | list): Images, BGR where arrays, or a folder of them,
                searched recursively; see :func:`name_images`.
            nms (bool): Thin the maps by non-maximum suppression. Default: False.
            out_dir (str | PathLike, optional): Folder for ``maps/NAME.png``, of 16 bit, and
                ``overlays/NAME.jpg``. Arrays are named by their position. Default: None, no files.
            threshold (float): Lowest probability of boundaries in overlays. Default: 0.5.

        Returns:
            dict: ``predictions`` has the map, float32 of shape (H, W), or the list of maps for a list
            or a folder.

        Raises:
            FileNotFoundError: If an image does not exist, or a folder has none.
            FileExistsError: If a file to write exists already.
            ValueError: If an image cannot be read, or the network does not accept it.
        """
        images = name_images(inputs)
        maps = []
        for name, image in images.items():
            values, probability = self._detect(image, nms)
            maps.append(probability)
            if out_dir is not None:
                write_pictures(out_dir, name, values, probability, threshold)
        single = isinstance(inputs, np.ndarray) or (
            isinstance(inputs, (str, os.PathLike)) and not Path(inputs).is_dir()
        )
        return dict(predictions=maps[0] if single else maps)

    def detect(self, image: Image, nms: bool = False) -> np.ndarray:
        """Predict the boundary map of an image.

        Args:
            image (str | PathLike | ndarray): A file, or BGR values of 0-255, (H, W, 3).
            nms (bool): Thin it by non-maximum suppression. Default: False.

        Returns:
            np.ndarray: Probabilities, float32 of shape (H, W).

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be read, or the network does not accept it.
        """
        return self._detect(image, nms)[1]

    def _detect(self, image: Image, nms: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the image as it was loaded, and its boundary map."""
        load, *steps = self.pipeline.transforms
        if isinstance(image, np.ndarray):
            name = f'image of shape {image.shape} and type {image.dtype}'
            if image.size and image.dtype.kind == 'f' and image.max() <= 1:
                warnings.warn(f'{name}: values are up to {image.max():.3g}, not 255', stacklevel=3)
            data: dict[str, Any] = dict(img=image)
        else:
            name = os.fspath(image)
            data = dict(img_path=name)
        try:
            data = load(data)
            values = data['img'].copy()
        except FileNotFoundError:
            raise
        except Exception as error:  # decoders raise almost anything
            raise ValueError(f'{name}: the pipeline cannot load it as an image: {error}') from error
        for step in steps:
            data = step(data)
        try:
            with torch.inference_mode():
                (sample,) = self.model.test_step(pseudo_collate([data]))
        except torch.cuda.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError) as error:
            shape = 'x'.join(map(str, values.shape))
            raise ValueError(f'{name}: the network does not accept {shape} values: {error}') from error
        probability = boundary_probability(sample).cpu().numpy()
        if nms:
            from ..evaluation.boundary.nms import edge_nms

            probability = edge_nms(probability).astype(np.float32)
        return values, probability

    def write(
        self,
        inputs: Image | list[Image],
        out_dir: str | os.PathLike,
        nms: bool = False,
        threshold: float = 0.5,
        only: str | None = None,
    ) -> int:
        """Write maps and overlays with a progress bar; the other arguments are of :meth:`__call__`.

        Args:
            only (str, optional): Write only the ``'maps'`` or only the ``'overlays'``. Default: None,
                both.

        Returns:
            int: The number of images.
        """
        images = name_images(inputs)
        for name, image in track_iter_progress(list(images.items())):
            write_pictures(out_dir, name, *self._detect(image, nms), threshold, only)
        return len(images)

    def write_video(
        self,
        video: str | os.PathLike | int,
        out_dir: str | os.PathLike,
        nms: bool = False,
        threshold: float = 0.5,
        only: str | None = None,
        max_frames: int | None = None,
    ) -> int:
        """Detect boundaries in the frames of a video or a camera, with a progress bar.

        It writes ``overlays/NAME.mp4``, a video of the overlays with as many frames a second, and
        ``maps/NAME/000000.png``, ``000001.png`` ... NAME is the stem of the file or ``camera_0``. A
        camera is read until ``max_frames`` or an interrupt from the keyboard.

        Args:
            video (str | PathLike | int): A file that OpenCV reads, or the number of a camera.
            out_dir (str | PathLike): Folder to write to.
            nms (bool): Thin the maps by non-maximum suppression. Default: False.
            threshold (float): Lowest probability of boundaries in overlays. Default: 0.5.
            only (str, optional): Write only the ``'maps'`` or only the ``'overlays'``. Default: None,
                both.
            max_frames (int, optional): Stop after this many. Default: None.

        Returns:
            int: The number of frames.

        Raises:
            FileNotFoundError: If there is no such video.
            FileExistsError: If a file to write exists already.
            ValueError: If OpenCV cannot read the video, or cannot write one.
        """
        frames = VideoFrames(video, max_frames)
        _check_only(only)
        drawn = VideoWriter(Path(out_dir, 'overlays', f'{frames.name}.mp4'), frames.fps)
        number = 0
        try:
            for frame in track_iter_progress((iter(frames), frames.count)):
                _, probability = self._detect(frame, nms)
                if only != 'maps':
                    drawn.write(overlay(frame, probability, threshold))
                if only != 'overlays':
                    write_map(Path(out_dir, 'maps', frames.name, f'{number:06d}.png'), probability)
                number += 1
        except KeyboardInterrupt:
            if not frames.is_camera:
                raise
        finally:
            drawn.close()
        return number

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The config's pipeline without the transforms that load annotations."""
        key = 'tta_pipeline' if self.tta else 'test_pipeline'
        steps = cfg.get('tta_pipeline') if self.tta else cfg.test_dataloader.dataset.pipeline
        if not steps or not _kind(steps[0]).startswith('Load'):
            raise ValueError(f'{key}: must begin with a transform that loads the image')
        load = dict(steps[0])
        if _kind(load) == 'LoadImageFromFile':
            load['type'] = 'InferencerLoader'  # it accepts arrays, too
        steps = _without_loading(steps[1:])
        if self.scales is not None:
            *steps, pack = steps
            sizes = [dict(type='Resize', scale_factor=float(s), keep_ratio=True) for s in self.scales]
            steps.append(dict(type='TestTimeAug', transforms=[sizes, [pack]]))
        return Compose([load, *steps])


def _kind(step: dict) -> str:
    """The name of a transform's class; a config has the name or the class itself."""
    kind = step['type']
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def _without_loading(steps: Iterable) -> list:
    kept = []
    for step in steps:
        kind = _kind(step)
        if kind == 'TestTimeAug':
            branches = [[_without_loading([s]) for s in choices] for choices in step['transforms']]
            branches = [[s for found in choices for s in found] for choices in branches]
            kept.append(dict(step, transforms=[choices for choices in branches if choices]))
        elif not kind.startswith('Load'):
            kept.append(step)
    return kept


def name_images(inputs: Image | list[Image]) -> dict[str, Path | np.ndarray]:
    """Give each image a unique name, under which its results are written.

    The name of an image in a folder is its path below the folder, and that of a single file is its
    stem, both without suffix. The name of an array is its position. Files with the same name are named
    by the path below their common folder (``day/1.png`` and ``night/1.png``) or, if that is the same,
    keep their suffix (``1.png`` and ``1.jpg``).

    Args:
        inputs (str | PathLike | ndarray | list): Images, or folders, searched recursively for images
            of known suffixes in any case. Links are followed, hidden files ignored.

    Returns:
        dict[str, Path | ndarray]: The images by name, in the order given.

    Raises:
        FileNotFoundError: If an image does not exist, or a folder has none.
        ValueError: If one image is given twice.
    """
    found: list[tuple[str, Path | np.ndarray]] = []
    for number, item in enumerate(inputs if isinstance(inputs, (list, tuple)) else [inputs]):
        if isinstance(item, np.ndarray):
            found.append((f'{number:08d}', item))
        elif Path(item).is_dir():
            paths = list_files(item, SUFFIXES)
            if not paths:
                raise FileNotFoundError(f'{item}: the folder holds no image ({" ".join(SUFFIXES)})')
            found += [(path.relative_to(item).with_suffix('').as_posix(), path) for path in paths]
        elif Path(item).is_file():
            found.append((Path(item).stem, Path(item)))
        else:
            raise FileNotFoundError(f'{item}: no such image or folder')
    alike: dict[str, list[int]] = {}
    for index, (name, _) in enumerate(found):
        alike.setdefault(name, []).append(index)
    for name, indices in alike.items():
        files = {i: image for i in indices if isinstance(image := found[i][1], Path)}
        if len(indices) > 1:
            for index, other in zip(files, _distinct(name, list(files.values()))):
                found[index] = other, files[index]
    named: dict[str, Path | np.ndarray] = {}
    for name, image in found:
        if name in named:
            raise ValueError(f'{named[name]} and {image}: both would be written as {name}')
        named[name] = image
    return named


def split_inputs(inputs: Iterable[Path]) -> tuple[list[Path], list[Path | int]]:
    """Tell images and folders from videos and cameras.

    Args:
        inputs (Iterable[Path]): What a user names. A file with a video's suffix is a video, and a
            number that is no file a camera.

    Returns:
        tuple[list[Path], list[Path | int]]: Images and folders; videos and numbers of cameras.

    Raises:
        FileNotFoundError: If a video does not exist.
        ValueError: If two videos have the same name, under which their frames are written.
    """
    images: list[Path] = []
    videos: dict[str, Path | int] = {}
    for item in inputs:
        source: Path | int = item
        if item.suffix.lower() in VIDEO_SUFFIXES and not item.is_dir():
            if not item.is_file():
                raise FileNotFoundError(f'{item}: no such video')
        elif item.name.isdecimal() and item.name == str(item) and not item.exists():
            source = int(item.name)
        else:
            images.append(item)
            continue
        name = f'camera_{source}' if isinstance(source, int) else source.stem
        if name in videos:
            raise ValueError(f'{videos[name]} and {source}: both would be written as {name}')
        videos[name] = source
    return images, list(videos.values())


def _distinct(name: str, paths: list[Path]) -> list[str]:
    """Unique names of files with the same name: by their folders, or else by suffix."""
    absolute = [Path(os.path.abspath(path)) for path in paths]
    above = os.path.commonpath([path.parent for path in absolute])
    below = [path.relative_to(above) for path in absolute]
    by_folder = [path.with_suffix('').as_posix() for path in below]
    by_suffix = [name + path.suffix for path in paths]
    for names in (by_folder, by_suffix) if len(paths) > 1 else (by_suffix,):
        if len(set(names)) == len(names):
            return names
    return [path.as_posix() for path in below]


def write_pictures(
    out_dir: str | os.PathLike,
    name: str,
    image: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    only: str | None = None,
) -> None:
    """Write ``maps/NAME.png``, of 16 bit, and ``overlays/NAME.jpg`` below a folder, or one of them.

    Raises:
        FileExistsError: If one of them exists already.
        OSError: If a file cannot be written.
    """
    _check_only(only)
    path, drawn = Path(out_dir, 'maps', f'{name}.png'), Path(out_dir, 'overlays', f'{name}.jpg')
    if only != 'overlays':
        write_map(path, probability)
    if only != 'maps':
        _make_room(drawn)
        if not cv2.imwrite(str(drawn), overlay(image, probability, threshold)):
            raise OSError(f'{drawn}: could not be written')


def _check_only(only: str | None) -> None:
    if only not in (None, 'maps', 'overlays'):
        raise ValueError(f"only={only!r}: must be 'maps' or 'overlays', or None for both")


def _make_room(file: Path) -> None:
    if file.exists():
        raise FileExistsError(f'{file} exists already; choose another out_dir')
    file.parent.mkdir(parents=True, exist_ok=True)


def write_map(file: Path, probability: np.ndarray) -> None:
    """Write a boundary map to a new PNG file, of 16 bit.

    Raises:
        FileExistsError: If the file exists already.
        OSError: If it cannot be written.
    """
    _make_room(file)
    write_boundary_map(file, probability)


def overlay(image: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Draw boundaries over a darker copy of an image.

    Args:
        image (ndarray): (H, W) or (H, W, channels), of any type, BGR if of three channels.
        probability (ndarray): Boundary map, (H, W).
        threshold (float): Lowest probability of boundaries. Default: 0.5.

    Returns:
        ndarray: uint8, (H, W, 3), BGR.
    """
    drawn = to_bgr8(image) // 2
    drawn[probability >= threshold] = COLOUR
    return drawn
