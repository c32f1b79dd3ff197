"""Writes predicted label maps, one file for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS as MMSEG_METRICS

from ..registry import METRICS


@METRICS.register_module()
@MMSEG_METRICS.register_module()
class LabelMapIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric``, but label maps are written into the same subfolders as the images.

    mmseg names a map by its image's file name alone, so the maps of images with the same name in
    different folders overwrite each other. Here, with ``root='data'``, the maps of ``data/north/1.jpg``
    and ``data/south/1.jpg`` are ``north/1.png`` and ``south/1.png`` below ``output_dir``.

    Args:
        root (str, optional): Folder to which the paths of maps are relative. Images elsewhere keep
            their full path. Default: None, all images keep it.
        **kwargs: Of :class:`mmseg.evaluation.IoUMetric`.
    """

    def __init__(self, *args: Any, root: str | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.output_dir: str | None
        self.root = root
        self._images: dict[Path, str] = {}

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Evaluate a batch, and write its label maps if there is an ``output_dir``.

        Raises:
            ValueError: If the maps of two images have one name.
        """
        folder = self.output_dir
        try:
            for sample in data_samples:
                if folder is not None:
                    self.output_dir = str(self._folder(Path(folder), sample['img_path']))
                super().process(data_batch, [sample])
        finally:
            self.output_dir = folder

    def _folder(self, folder: Path, image: str) -> Path:
        """The folder for an image's map; it is made if it does not exist."""
        path = Path(os.path.abspath(image))
        root = Path(os.path.abspath(self.root)) if self.root else None
        if root is not None and path.is_relative_to(root):
            path = path.relative_to(root)
        else:
            path = Path(*(part for part in Path(image).parts if part not in ('..', Path(image).anchor)))
        target = folder / path.with_suffix('.png')
        other = self._images.setdefault(target, image)
        if other != image:
            raise ValueError(f'{other} and {image}: both label maps would be {target}; rename an image')
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.parent
