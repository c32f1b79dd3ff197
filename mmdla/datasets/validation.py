"""Validation of data sets before training: certain failures are errors, likely mistakes are warnings.

It asks the data sets for the paths of all their samples, and runs a few samples through their
pipelines. It does not know how a data set finds its files, or which formats a loader reads.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS
from PIL import Image
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from .folders import KNOWN, DataFolderError, dataset_help

SAMPLES = 8
ORIENTATION = 0x0112  # EXIF


class DatasetError(ValueError):
    """A data set cannot be used; the message names it, a sample, and what would be right."""


def build_dataset(cfg: dict) -> Dataset:
    """Build a data set from its config, and load its list of samples.

    Args:
        cfg (dict): Config of the data set.

    Raises:
        DataFolderError, DatasetError: With the library's own reason; for known data sets also with the
            expected content of the folder and how to get it.
    """
    try:
        dataset = DATASETS.build(cfg)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
        return dataset
    except DataFolderError:
        raise
    except (OSError, ValueError, AssertionError) as error:
        name = _name(cfg)
        reason = _why_empty(cfg) or f'{type(error).__name__}: {error}'.rstrip('.')
        raise DatasetError(
            f'{name} cannot be built: {reason}{_advice(name, cfg.get("data_root"))}'
        ) from error


def _advice(name: str, data_root: str | None) -> str:
    """How to get a known data set; '' for any other."""
    return f'. {dataset_help(name, data_root)}' if name in KNOWN else ''


def _name(cfg: dict) -> str:
    kind = cfg['type']
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _why_empty(cfg: dict) -> str:
    """The arguments with which a data set found no sample; '' for any other data set.

    The error that mmengine's data sets raise for an empty list does not mention it.
    """
    try:
        dataset = DATASETS.build({**cfg, 'lazy_init': True})
        if dataset.load_data_list():
            return ''
    except Exception:  # then report the first error
        return ''
    names = ('ann_file', 'data_prefix', 'img_suffix', 'seg_map_suffix')
    found = [f'{n}={getattr(dataset, n)!r}' for n in names if getattr(dataset, n, None)]
    return f'it found no sample ({", ".join(found)})'


def sample_name(dataset: Dataset, index: int) -> str:
    """A sample's number and, if the data set knows them, its files, for messages."""
    named = ', '.join(f'{key}={path!r}' for key, path in _paths(_info(dataset, index)).items())
    return f'sample {index}' + (f' ({named})' if named else '')


def _info(dataset: Dataset, index: int) -> dict:
    """A data set's information about a sample; empty if it is not of mmengine's kind."""
    try:
        info = dataset.get_data_info(index)  # type: ignore[attr-defined]
    except Exception:  # a user's own class may lack the method, or use its name for something else
        return {}
    return info if isinstance(info, dict) else {}


def _paths(info: dict) -> dict[str, str]:
    """The paths in a data set's information about a sample."""
    return {
        k: os.fspath(v)
        for k, v in info.items()
        if 'path' in str(k) and isinstance(v, (str, os.PathLike)) and os.fspath(v)
    }


@dataclass
class Outputs:
    """The outputs of a network, with which the labels of a data set are compared.

    Attributes:
        num_classes (int): Number of classes of the network.
        argument (str): The setting of the config that has this number, for messages.
        ignore_index (int, optional): The label of ignored pixels.
        loss (nn.Module, optional): The losses of a segmentor's head, which may accept other labels,
            such as percentages.
        channels (int): Number of the head's logits.
    """

    num_classes: int
    argument: str = 'num_classes'
    ignore_index: int | None = None
    loss: nn.Module | None = None
    channels: int = 0

    @classmethod
    def of(cls, model: nn.Module) -> Outputs | None:
        """The outputs of a segmentor or classifier; None for models of another kind."""
        for name in ('decode_head', 'head'):
            head = getattr(model, name, None)
            head = head[-1] if isinstance(head, nn.ModuleList) and len(head) else head
            classes = getattr(head, 'num_classes', None)
            if isinstance(classes, int):
                channels = getattr(head, 'out_channels', None) or classes
                return cls(
                    # One output channel distinguishes the labels 0 and 1.
                    max(classes, 2),
                    f'model.{name}.num_classes',
                    getattr(head, 'ignore_index', None),
                    getattr(head, 'loss_decode', None),
                    channels,
                )
        return None

    def check(self, labels: Tensor) -> None:
        """Check that the network has an output for each label of a sample.

        Raises:
            ValueError: If it has not, unless the head's losses accept the labels.
        """
        known = (labels >= 0) & (labels < self.num_classes)
        if self.ignore_index is not None:
            known |= labels == self.ignore_index
        refused = '' if known.all() else self._loss_error(labels)
        if refused is None or known.all():
            return
        wrong = torch.unique(labels[~known]).tolist()
        shown = ', '.join(map(str, wrong[:5])) + (' ...' if len(wrong) > 5 else '')
        ignored = '' if self.ignore_index is None else f', or {self.ignore_index}, which is ignored'
        raise ValueError(
            f'it has the labels {shown}; with {self.argument}={self.num_classes} they must be 0 to '
            f'{self.num_classes - 1}{ignored}{refused}'
        )

    def _loss_error(self, labels: Tensor) -> str | None:
        """Why the head's losses do not accept some labels, for a message; None if they do."""
        if self.loss is None:
            return ''
        logits = torch.zeros(1, self.channels, *labels.shape[-2:])
        labels = labels.reshape(1, *labels.shape[-2:]).cpu().long()
        try:
            for loss in self.loss if isinstance(self.loss, nn.ModuleList) else [self.loss]:
                copy.deepcopy(loss).cpu()(logits, labels, ignore_index=self.ignore_index)
        except Exception as error:
            return f' ({type(loss).__name__}: {error})'
        return None


@dataclass
class DatasetValidator:
    """Validates data sets.

    Errors are: a data set without samples; a missing file that the pipeline reads; a sample that the
    pipeline cannot read; labels with several channels, of another size than the loaded image, or
    without an output of the network. Warnings are: labels that are all 0 or ignored; far fewer classes
    than outputs; images with an EXIF orientation that their labels may not have.

    Args:
        outputs (Outputs, optional): Outputs to compare labels with. Default: None, no comparison.
        warn (Callable[[str], None]): Called once with each warning. Default: print.
        samples (int): How many samples of each data set to read, evenly spread over it. Default: 8.

    Attributes:
        report (list[str]): For each data set, what was checked.
    """

    outputs: Outputs | None = None
    warn: Callable[[str], None] = print
    samples: int = SAMPLES
    report: list[str] = field(default_factory=list)
    _warned: set[str] = field(default_factory=set, repr=False)

    def __call__(self, name: str, dataset: Dataset) -> None:
        """Validate a data set and the data sets that it wraps.

        Args:
            name (str): Its name in messages.
            dataset (Dataset): The data set.

        Raises:
            DatasetError: For the first error.
        """
        if isinstance(dataset, IterableDataset):
            return  # it has no indices
        leaves = list(unwrap(dataset))
        for number, leaf in enumerate(leaves):
            title = f'{name}, {type(leaf).__name__}' + (f' {number}' if len(leaves) > 1 else '')
            with unchanged_random_state():
                self._validate(title, leaf)
        if leaves[0] is not dataset and len(dataset):  # type: ignore[arg-type]
            with unchanged_random_state():
                _read(name, dataset, 0)

    def _validate(self, name: str, dataset: Dataset) -> None:
        count = len(dataset)  # type: ignore[arg-type]
        if not count:
            advice = _advice(type(dataset).__name__, getattr(dataset, 'data_root', None))
            raise DatasetError(f'{name} has no sample{advice}')
        known = self._check_all(name, dataset, count)
        indices = sorted({round(i) for i in np.linspace(0, count - 1, self.samples)})
        values: set[int] = set()
        for index in indices:
            values |= self._check_sample(name, dataset, index)
        self._check_values(name, dataset, values, len(indices))
        looked_at = f'files of {known} samples' if known else f'{count} samples'
        self.report.append(f'{name}: {looked_at}, {len(indices)} of them read')

    def _check_all(self, name: str, dataset: Dataset, count: int) -> int:
        """Check that each sample's files exist and, where the data set knows it, its class.

        Returns:
            int: The number of samples whose files the data set knows.
        """
        classes = self.outputs.num_classes if self.outputs else np.inf
        samples = 0
        missing: dict[str, list[int]] = {}
        known: dict[str, set[str]] = {}
        described = f'Looking for the files of {name}'
        for index in track(range(count), described, transient=True, disable=count < 20000):
            info = _info(dataset, index)
            paths = _paths(info)
            samples += bool(paths)
            for key, path in paths.items():
                folder, file = os.path.split(path)
                if folder not in known:
                    known[folder] = (
                        set(os.listdir(folder or '.')) if os.path.isdir(folder or '.') else set()
                    )
                if file not in known[folder]:
                    missing.setdefault(key, []).append(index)
            label = info.get('gt_label')
            if isinstance(label, (int, np.integer)) and label >= classes:
                self._check_sample(name, dataset, index)
                classes = np.inf  # the pipeline changes labels
        for key, indices in missing.items():
            # Only the pipeline knows which files it reads, and from where.
            try:
                _run(dataset, indices[0])
            except Exception as error:
                advice = _advice(type(dataset).__name__, getattr(dataset, 'data_root', None))
                raise DatasetError(
                    f'{name}: {key} of {len(indices)} of {count} samples does not exist; the first is '
                    f'{sample_name(dataset, indices[0])}: {error}{advice}'
                ) from error
        return samples

    def _check_sample(self, name: str, dataset: Dataset, index: int) -> set[int]:
        """Read a sample, check it, and return the values of its labels."""
        sample, loaded = _read(name, dataset, index)
        title = f'{name}, {sample_name(dataset, index)}'
        image, labels = loaded.get('img'), loaded.get('gt_seg_map')
        path = _paths(_info(dataset, index)).get('img_path')
        volume = image is not None and image.ndim > 3  # its labels have a depth, too
        if labels is not None and labels.ndim > 2 and not volume:
            raise DatasetError(
                f'{title}: the label map has {labels.shape[2]} channels (shape {labels.shape}); it '
                'must have one, whose values are class numbers'
            )
        if image is not None and labels is not None and not volume:
            self._check_sizes(title, image, labels, path, sample)
        packed = sample.get('data_samples') if isinstance(sample, dict) else None
        values: set[int] = set()
        for key in ('gt_sem_seg', 'gt_label'):
            found = getattr(packed, key, None)
            found = getattr(found, 'data', found)
            if self.outputs is None or not isinstance(found, Tensor) or found.is_floating_point():
                continue
            try:
                self.outputs.check(found)
            except ValueError as error:
                raise DatasetError(f'{title}: {error}') from error
            if key == 'gt_sem_seg':
                values |= set(torch.unique(found).tolist())
        return values

    def _check_sizes(
        self, title: str, image: np.ndarray, labels: np.ndarray, path: str | None, sample: Any
    ) -> None:
        """Check that a loaded image and its labels have the same size."""
        size, labelled = image.shape[:2], labels.shape[:2]
        turned = _orientation(path, image)
        if size == labelled:
            # From 5 on they turn by 90 degrees, which changes the size unless the image is square.
            if turned in (2, 3, 4) or (turned > 4 and size[0] == size[1]):
                self._warn_once(
                    f'{title}: the photograph has the EXIF orientation {turned}, which its loader '
                    'applies. Labels that were drawn on the pixels as stored do not fit it; '
                    "imdecode with color_type='color_ignore_orientation' would not apply it"
                )
            return
        # Labels of a lower resolution are no error if the pipeline resizes them to the image's size.
        data = sample.get('data_samples') if isinstance(sample, dict) else None
        gt = getattr(getattr(data, 'gt_sem_seg', None), 'data', None)
        inputs = sample.get('inputs') if isinstance(sample, dict) else None
        scaled = np.isclose(size[0] * labelled[1], size[1] * labelled[0], rtol=0.02)
        if (
            scaled
            and isinstance(gt, Tensor)
            and isinstance(inputs, Tensor)
            and gt.shape[-2:] == inputs.shape[-2:]
        ):
            return
        reason = ''
        if turned > 4 and size == labelled[::-1]:
            reason = (
                f'; its loader applies the EXIF orientation {turned}, which the labels do not follow'
            )
        raise DatasetError(
            f'{title}: image and labels must be of one size, but as loaded the image has '
            f'{size[0]}x{size[1]} pixels and the labels {labelled[0]}x{labelled[1]}{reason}'
        )

    def _check_values(self, name: str, dataset: Dataset, values: set[int], read: int) -> None:
        """Warn about labels and classes that are likely a mistake."""
        if self.outputs is None:
            return
        ignored = self.outputs.ignore_index
        if ignored in values and values <= {0, ignored}:
            self._warn_once(
                f'{name}: the labels of the {read} samples read are 0 and {ignored} only, and '
                f'{ignored} is ignored: nothing but class 0 would be learned. In masks of 0 and 255 '
                'the 255 must become 1'
            )
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if classes and 2 * len(classes) <= self.outputs.num_classes:
            self._warn_once(
                f'{name} has {len(classes)} classes, and {self.outputs.argument} is '
                f'{self.outputs.num_classes}'
            )

    def _warn_once(self, text: str) -> None:
        kind = text.partition(':')[2] or text
        if kind not in self._warned:
            self._warned.add(kind)
            self.warn(text)


def unwrap(dataset: Dataset) -> Iterator[Dataset]:
    """The innermost data sets that a data set wraps (``.dataset``, ``.datasets``), or itself."""
    attributes = vars(dataset) if hasattr(dataset, '__dict__') else {}
    inner = attributes.get('dataset', attributes.get('datasets', attributes.get('_dataset')))
    inner = [inner] if isinstance(inner, Dataset) else inner
    if not isinstance(inner, (list, tuple)) or not inner or not isinstance(inner[0], Dataset):
        yield dataset  # the attribute is something else
        return
    for one in inner:
        yield from unwrap(one)


def check_class_folders(splits: dict[str, Sequence[Dataset]], warn: Callable[[str], None]) -> None:
    """Check that class folders have the same numbers in all splits.

    Args:
        splits (dict[str, Sequence[Dataset]]): Unwrapped data sets, by split.
        warn (Callable[[str], None]): Called with warnings.

    Raises:
        DatasetError: If a folder has different numbers in two splits.
    """
    seen: dict[str, tuple[int, str]] = {}
    names: dict[int, tuple[str, str]] = {}
    for split, datasets in splits.items():
        for dataset in datasets:
            numbers = getattr(dataset, 'folder_to_idx', None) or {}
            hidden = sorted(name for name in numbers if name.startswith('.'))
            if hidden:
                warn(f'{split} data: the folders {hidden} are taken for classes')
            other = []
            for name, number in numbers.items():
                before = seen.setdefault(name, (number, split))
                if before[0] != number:
                    raise DatasetError(
                        f'the class folder {name!r} is class {before[0]} in {before[1]} data and '
                        f'class {number} in {split} data: folders are numbered in order, so both need '
                        'the same ones (empty ones for classes without images)'
                    )
                known, where = names.setdefault(number, (name, split))
                if known != name:
                    other.append(f'class {number} is {known!r} in {where} data and {name!r} here')
            if other:
                warn(
                    f'{split} data: {len(other)} class folders have other names; {other[0]}. Folders '
                    'are numbered in order: make sure that these are the same classes'
                )


def _read(name: str, dataset: Dataset, index: int) -> tuple[Any, dict[str, np.ndarray]]:
    try:
        return _run(dataset, index)
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'
        raise DatasetError(f'{name}, {sample_name(dataset, index)}: {reason}') from error


def _run(dataset: Dataset, index: int) -> tuple[Any, dict[str, np.ndarray]]:
    """Read a sample; also return its image and label map as they were first loaded."""
    loaded: dict[str, np.ndarray] = {}

    def look(results: Any) -> Any:
        for key in ('img', 'gt_seg_map') if isinstance(results, dict) else ():
            if key not in loaded and isinstance(results.get(key), np.ndarray):
                loaded[key] = results[key].copy()
        return results

    pipeline: Any = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', None)
    if not isinstance(transforms, list):
        return dataset[index], loaded
    pipeline.transforms = [step for transform in transforms for step in (transform, look)]
    try:
        return dataset[index], loaded
    finally:
        pipeline.transforms = transforms


def _orientation(path: str | None, image: np.ndarray) -> int:
    """The EXIF orientation that was applied to a photograph when it was loaded; 1 for none."""
    if path is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return 1
    try:
        with Image.open(path) as file:
            orientation = file.getexif().get(ORIENTATION, 1)
        if orientation == 1:
            return 1
        stored = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except Exception:  # Pillow does not know the format
        return 1
    return 1 if stored is not None and np.array_equal(stored, image) else orientation


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Restore the state of the random generators afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  the transforms draw from it
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
