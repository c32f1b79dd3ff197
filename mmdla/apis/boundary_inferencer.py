"""Boundary maps of images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS
from mmengine.utils import track_iter_progress

from ..utils.boundaries import boundary_probability, write_boundary_map
from ..utils.image_files import read_bgr
from .seg_inferencer import SegInferencer

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.ppm', '.webp')
COLOUR = (40, 200, 255)  # BGR
Image = str | os.PathLike | np.ndarray


class BoundaryInferencer(SegInferencer):
    """Boundary maps of images, of any size, one at a time.

    Args:
        model (str | Config): Name of a config of this project (``'dla34_bsds500'``), a path, or a
            config, of a segmentor with two classes or one output channel.
        weights (str, optional): Path or address. Default: the published ones of ``model``.
        tta (bool): Average the config's augmentations, ``tta_pipeline``. Default: False.
        **kwargs: Of :class:`SegInferencer`: ``device`` ...

    Raises:
        ValueError: If ``model`` is no known name or no boundary detector, or has no published weights
            and none are given, or with ``tta`` the config's ``tta_model`` is none for boundaries.
        FileNotFoundError, CheckpointError: If the weights are not there, are no checkpoint, or of
            another network.

    Example:
        >>> from mmdla.apis import BoundaryInferencer
        >>> inferencer = BoundaryInferencer('dla34_bsds500', 'work_dirs/dla34_bsds500/epoch_1200.pth')
        >>> probability = inferencer('street.png')['predictions']  # (H, W), float32
    """

    task = 'Boundary Detection'

    def __init__(self, model: str | Config, weights: str | None = None, tta: bool = False, **kwargs):
        self.tta = tta
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
            if settings.get('type', '').rpartition('.')[2] != 'BoundaryTTAModel':
                raise ValueError(
                    f'tta=True: tta_model of the config must be a BoundaryTTAModel, but is {settings}'
                )
            self.model = MODELS.build(dict(**settings, module=self.model)).eval()

    def __call__(
        self,
        inputs: Image | list[Image],
        nms: bool = False,
        out_dir: str | os.PathLike | None = None,
        threshold: float = 0.5,
    ) -> dict:
        """Boundary maps, kept in memory; for many images see :meth:`write`.

        Args:
            inputs (str | PathLike | ndarray | list): Images, BGR where arrays, or a folder of them,
                searched recursively.
            nms (bool): Thin the maps by non-maximum suppression. Default: False.
            out_dir (str | PathLike, optional): Folder for ``maps/NAME.png``, of 16 bit, and
                ``overlays/NAME.jpg``. Arrays are named by their place. Default: none are written.
            threshold (float): Probability from which on an overlay shows a boundary. Default: 0.5.

        Returns:
            dict: In ``predictions`` the map, float32 of shape (H, W), or for a list or a folder the
            list of maps.

        Raises:
            FileNotFoundError: If there is no such image, or none in a folder.
            FileExistsError: If a file is to be written that is there.
            ValueError: If an image cannot be read or two would be written to one file.
        """
        images = name_images(inputs)
        maps = []
        for name, image in images.items():
            image = read_image(image)
            maps.append(self.detect(image, nms))
            if out_dir is not None:
                write_pictures(out_dir, name, image, maps[-1], threshold)
        single = isinstance(inputs, np.ndarray) or (
            isinstance(inputs, (str, os.PathLike)) and not Path(inputs).is_dir()
        )
        return dict(predictions=maps[0] if single else maps)

    def detect(self, image: Image, nms: bool = False) -> np.ndarray:
        """The boundary map of an image.

        Args:
            image (str | PathLike | ndarray): A file, or BGR values of 0-255, (H, W, 3).
            nms (bool): Thin it by non-maximum suppression. Default: False.

        Returns:
            np.ndarray: Probabilities, float32 of shape (H, W).
        """
        data = self.pipeline(read_image(image))
        with torch.inference_mode():
            (sample,) = self.model.test_step(pseudo_collate([data]))
        probability = boundary_probability(sample).cpu().numpy()
        if nms:
            from ..evaluation.edge_nms import edge_nms

            probability = edge_nms(probability).astype(np.float32)
        return probability

    def write(
        self,
        inputs: Image | list[Image],
        out_dir: str | os.PathLike,
        nms: bool = False,
        threshold: float = 0.5,
    ) -> int:
        """Write maps and overlays, with a progress bar, keeping none; arguments of :meth:`__call__`.

        Returns:
            int: How many images there were.
        """
        images = name_images(inputs)
        for name, image in track_iter_progress(list(images.items())):
            image = read_image(image)
            write_pictures(out_dir, name, image, self.detect(image, nms), threshold)
        return len(images)

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The config's pipeline from the image on; what loads annotations is left out."""
        key = 'tta_pipeline' if self.tta else 'test_pipeline'
        steps = cfg.get('tta_pipeline') if self.tta else cfg.test_dataloader.dataset.pipeline
        if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
            raise ValueError(f'{key}: must begin with LoadImageFromFile')
        steps = [dict(steps[0], type='InferencerLoader'), *_without_loading(steps[1:])]
        return Compose(steps)


def _without_loading(steps: Iterable) -> list:
    kept = []
    for step in steps:
        kind = step['type'].rpartition('.')[2]
        if kind == 'TestTimeAug':
            branches = [[_without_loading([s]) for s in choices] for choices in step['transforms']]
            branches = [[s for found in choices for s in found] for choices in branches]
            kept.append(dict(step, transforms=[choices for choices in branches if choices]))
        elif not kind.startswith('Load'):
            kept.append(step)
    return kept


def name_images(inputs: Image | list[Image]) -> dict[str, Path | np.ndarray]:
    """Images by the names under which their results are written.

    Args:
        inputs (str | PathLike | ndarray | list): Images, or folders, searched recursively.

    Returns:
        dict[str, Path | ndarray]: Name without suffix, below a folder the path from there: image.

    Raises:
        FileNotFoundError: If there is no such image, or none in a folder.
        ValueError: If two images are of one name.
    """
    found: dict[str, Path | np.ndarray] = {}
    for number, item in enumerate(inputs if isinstance(inputs, (list, tuple)) else [inputs]):
        if isinstance(item, np.ndarray):
            named = [(f'{number:08d}', item)]
        elif Path(item).is_dir():
            paths = sorted(p for p in Path(item).rglob('*') if p.suffix.lower() in SUFFIXES)
            paths = [p.relative_to(item) for p in paths]
            named = [
                (p.with_suffix('').as_posix(), Path(item) / p)
                for p in paths
                if not any(part.startswith('.') for part in p.parts)
            ]
            if not named:
                raise FileNotFoundError(f'{item}: the folder holds no image ({" ".join(SUFFIXES)})')
        elif Path(item).is_file():
            named = [(Path(item).stem, Path(item))]
        else:
            raise FileNotFoundError(f'{item}: there is no such image or folder')
        for name, image in named:
            if name in found:
                raise ValueError(
                    f'{found[name]} and {image}: both would be written as {name}; rename one of them'
                )
            found[name] = image
    return found


def read_image(image: Image) -> np.ndarray:
    """BGR values of a file, 0-255, (H, W, 3); an array of this shape is returned as it is.

    Raises:
        ValueError: If it is no such image, too large or not whole; the message names it.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f'image of shape {image.shape} and type {image.dtype}: must be (H, W, 3), BGR, uint8'
            )
        return image
    return read_bgr(image)


def write_pictures(
    out_dir: str | os.PathLike, name: str, image: np.ndarray, probability: np.ndarray, threshold: float
) -> None:
    """Write ``maps/NAME.png``, of 16 bit, and ``overlays/NAME.jpg`` below a folder.

    Raises:
        FileExistsError: If one of them is there.
        OSError: If a file cannot be written.
    """
    path, drawn = Path(out_dir, 'maps', f'{name}.png'), Path(out_dir, 'overlays', f'{name}.jpg')
    for file in (path, drawn):
        if file.exists():
            raise FileExistsError(f'{file}: is there already; choose another out_dir')
        file.parent.mkdir(parents=True, exist_ok=True)
    write_boundary_map(path, probability)
    if not cv2.imwrite(str(drawn), overlay(image, probability, threshold)):
        raise OSError(f'{drawn}: could not be written')


def overlay(image: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Boundaries over a paler image.

    Args:
        image (ndarray): uint8, (H, W, 3), BGR.
        probability (ndarray): Boundary map, (H, W).
        threshold (float): Probability from which on a pixel is boundary. Default: 0.5.

    Returns:
        ndarray: uint8, (H, W, 3), BGR.
    """
    drawn = image // 2
    drawn[probability >= threshold] = COLOUR
    return drawn
