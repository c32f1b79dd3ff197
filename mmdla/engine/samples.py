"""What a sample must be for a network to learn from it, told with the names of its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Dataset

from ..utils.image_files import check_image_file, open_image

# Where data sets of mmseg and mmpretrain name a sample's files.
IMAGE, LABELS = 'img_path', 'seg_map_path'
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


class SampleError(ValueError):
    """A sample cannot be read or learned from; the message names its files."""


class SampleChecks:
    """Whether samples are whole, and their labels such that the network knows them.

    The files of a sample are looked at once, before they are decoded: whether they are images, whole,
    of bearable size, and the labels of the size of the image. The labels that come out of the pipeline
    are looked at each time.

    Args:
        num_classes (int, optional): Classes that the network tells apart. Default: labels are not
            looked at.
        ignore_index (int): The label beside them that has no class. Default: 255.
        argument (str): Where the config says ``num_classes``, for messages.
    """

    def __init__(
        self, num_classes: int | None = None, ignore_index: int = 255, argument: str = 'num_classes'
    ):
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.argument = argument
        self._seen: set[str] = set()

    @classmethod
    def for_model(cls, cfg: Config) -> SampleChecks:
        """As the head in a config wants its labels.

        Args:
            cfg (Config): The whole config.
        """
        model = cfg.get('model') or {}
        for name in ('decode_head', 'head'):
            head = model.get(name)
            head = head[-1] if isinstance(head, list) and head else head
            if isinstance(head, dict) and isinstance(head.get('num_classes'), int):
                # A head of one class has the labels 0 and 1.
                return cls(
                    max(head['num_classes'], 2),
                    head.get('ignore_index', 255),
                    f'model.{name}.num_classes',
                )
        return cls()

    @contextmanager
    def of(self, dataset: Dataset, index: int) -> Iterator[Callable[[Any], None]]:
        """Look at a sample's files; what is entered looks at the sample that was read.

        Args:
            dataset (Dataset): The data set; mmengine's tell the files.
            index (int): The sample.

        Raises:
            SampleError: If anything is wrong with it, or goes wrong in between.
        """
        info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
        info = info if isinstance(info, dict) else {}
        named = [f'{info[key]!r}' for key in (IMAGE, LABELS) if isinstance(info.get(key), str)]
        name = f'sample {index}' + (f' ({" with labels ".join(named)})' if named else '')
        try:
            self._check_files(info)
            yield partial(self._check_labels, name)
        except SampleError:
            raise
        except Exception as error:
            raise SampleError(f'{name}: {str(error) or type(error).__name__}') from error

    def _check_files(self, info: dict) -> None:
        """Whether the files are images, whole and of one size."""
        paths = [info.get(key) for key in (IMAGE, LABELS)]
        if all(path in self._seen for path in paths if path):
            return
        sizes = {}
        for path in paths:
            # What is not a file here, another storage's, is left to the pipeline.
            if isinstance(path, str) and path.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(path):
                sizes[path] = check_image_file(path)
        # A photograph may be stored lying, with a note that decoders follow.
        standing = len(sizes) == 2 and sizes[paths[0]] == sizes[paths[1]][::-1] and _turned(paths[0])
        if len(set(sizes.values())) > 1 and not standing:
            told = ', '.join(f'{path!r} has {h}x{w} pixels' for path, (h, w) in sizes.items())
            raise ValueError(f'the image and its labels must be of one size, but {told}')
        self._seen.update(path for path in paths if path)

    def _check_labels(self, name: str, sample: Any) -> None:
        """Whether the labels of a sample are classes that the network knows."""
        packed = sample.get('data_samples') if isinstance(sample, dict) else None
        if self.num_classes is None or packed is None:
            return
        for field in ('gt_sem_seg', 'gt_label'):
            labels = getattr(packed, field, None)
            labels = getattr(labels, 'data', labels)
            if not isinstance(labels, Tensor) or labels.is_floating_point():
                continue
            known = (labels >= 0) & (labels < self.num_classes)
            if field == 'gt_sem_seg':
                known |= labels == self.ignore_index
            if not known.all():
                wrong = torch.unique(labels[~known]).tolist()
                shown = ', '.join(map(str, wrong[:5])) + (' ...' if len(wrong) > 5 else '')
                ignored = f' and {self.ignore_index}' if field == 'gt_sem_seg' else ''
                raise SampleError(
                    f'{name}: has the labels {shown}; with {self.argument}={self.num_classes} they '
                    f'must be 0 to {self.num_classes - 1}{ignored}'
                )


def _turned(path: str) -> bool:
    """Whether an image's EXIF data have its height and width change places."""
    with open_image(path) as image:
        return image.getexif().get(0x0112, 1) >= 5
