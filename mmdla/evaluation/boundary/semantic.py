"""Boundaries of segmentations as a metric of mmseg: of each class, or of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmseg.registry import METRICS as MMSEG_METRICS
from rich.console import Console
from rich.table import Table

from ...registry import METRICS
from ...utils.mask_boundaries import mask_boundaries
from ...utils.predictions import boundary_probability
from .metric import BoundaryMetric
from .scores import BoundaryScores, count_boundaries

SOURCES = ('maps', 'masks', 'detector')


@METRICS.register_module()
@MMSEG_METRICS.register_module()
class SemanticBoundaryMetric(BoundaryMetric):
    """ODS, OIS and AP of boundaries against those of the label map, by class, from 0 to 1.

    A class's boundary in an image is that of all its pixels, one pixel wide; pixels that are ignored
    have no boundary and none is counted as predicted there. Maps are matched with it as by
    :class:`BoundaryMetric`. ``mODS``, ``mOIS`` and ``mAP`` are means over the classes that occur, whose
    own scores are printed. Masks have one threshold and therefore no AP.

    Every data sample has ``gt_sem_seg`` of the image's own size: load annotations after resizing.

    Args:
        source (str): What is scored. ``'maps'``: the sigmoid of ``seg_logits``, a channel a class, as
            networks for semantic boundaries have them. ``'masks'``: the boundaries of ``pred_sem_seg``,
            of any segmentor. ``'detector'``: the map of a boundary detector, against the boundaries
            between any two classes. Default: ``'masks'``.
        max_dist (float): How far a match may be, as a share of the diagonal: 0.02 for SBD, 0.0035 is
            usual for Cityscapes. Default: 0.02.
        thresholds (int): n for k / (n + 1); not for ``'masks'``. Default: 99.
        thin (bool): Thin the binary maps. Default: True.
        nms (bool | dict): Suppress non-maxima before, with the arguments of a dict. Default: False.
        num_workers (int): Processes that count. Default: 0, this process counts.
        solver (str, optional): As in :class:`BoundaryMetric`. Default: None.
        ignore_index (int): The label that is ignored. Default: 255.
        **kwargs: Of :class:`mmengine.evaluator.BaseMetric`. The default prefix is ``'boundary'``.

    Raises:
        ValueError: For an argument or a data sample that is not as said here.

    Source: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011, for SBD; Yu et al.,
    "CASENet: Deep Category-Aware Semantic Edge Detection", CVPR 2017, for Cityscapes.
    """

    default_prefix = 'boundary'

    def __init__(
        self,
        source: str = 'masks',
        max_dist: float = 0.02,
        thresholds: int = 99,
        thin: bool = True,
        nms: bool | dict = False,
        num_workers: int = 0,
        ignore_index: int = 255,
        solver: str | None = None,
        **kwargs: Any,
    ):
        if source not in SOURCES:
            raise ValueError(f'source={source!r} must be one of {", ".join(SOURCES)}')
        super().__init__(thresholds, max_dist, thin, nms, num_workers, solver, **kwargs)
        self.source = source
        if source == 'masks':
            self.settings['thresholds'] = 1
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count each image, or have it counted."""
        for sample in data_samples:
            name = sample.get('img_path') or f'image {len(self.results)}'
            labels = sample.get('gt_sem_seg')
            if labels is None:
                raise ValueError(
                    f'{name}: the data sample lacks gt_sem_seg: load annotations in testing'
                )
            labels = labels['data'].squeeze(0).cpu().numpy()
            arguments = (self._prediction(sample), labels, self.ignore_index, name, self.settings)
            self._count(count_classes, arguments, name)

    def _prediction(self, sample: Mapping) -> np.ndarray:
        """Maps of shape (C, H, W), or class numbers of shape (H, W)."""
        if self.source == 'detector':
            return boundary_probability(sample).cpu().numpy()[None]
        if self.source == 'masks':
            return sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy()
        logits = sample['seg_logits']['data'].float()
        # mmseg has put a single channel through the sigmoid
        return (logits if len(logits) == 1 else torch.sigmoid(logits)).cpu().numpy()

    def compute_metrics(self, results: list[tuple[str, dict[int, np.ndarray]]]) -> dict[str, float]:  # type: ignore[override]
        """Means over classes, whose own scores are printed."""
        names = (self.dataset_meta or {}).get('classes') or ()
        keys = ('ODS', 'OIS') if self.source == 'masks' else ('ODS', 'OIS', 'AP')
        table = Table('class', *keys)
        summaries = []
        for number in sorted({c for _, counts in results for c in counts}):
            counts = {str(i): one[number] for i, (_, one) in enumerate(results) if number in one}
            if not sum(one[0, 1] for one in counts.values()):
                continue  # predicted, but in no label map
            summary = BoundaryScores.of(counts).summary()
            summaries.append([summary[key] for key in keys])
            name = names[number] if number < len(names) else str(number)
            name = 'boundary' if self.source == 'detector' else name
            table.add_row(name, *(f'{100 * value:.2f}' for value in summaries[-1]))
        if not summaries:
            raise ValueError('no label map has a boundary')
        console = Console(width=100)
        with console.capture() as text:
            console.print(table)
        print_log(f'Boundaries were matched by {self.solver}.\n' + text.get(), 'current')
        means = np.mean(summaries, 0).tolist()
        mean = '' if self.source == 'detector' else 'm'
        return {f'{mean}{key}': value for key, value in zip(keys, means)}


def count_classes(
    prediction: np.ndarray,
    labels: np.ndarray,
    ignore_index: int,
    name: str,
    settings: Mapping[str, Any],
) -> dict[int, np.ndarray]:
    """Count what an image's boundaries get right, class by class: what the processes of a pool do.

    Args:
        prediction (np.ndarray): Maps from 0 to 1, of shape (classes, H, W), a single one being that of
            boundaries between any classes; or class numbers, of shape (H, W).
        labels (np.ndarray): Class numbers, of shape (H, W).
        ignore_index (int): The label that is ignored.
        name (str): The image's, for messages.
        settings (Mapping): Of :func:`count_boundaries`.

    Returns:
        dict[int, np.ndarray]: Counts as by :func:`count_boundaries`, by class, of those classes of
        which there is a boundary in either.

    Raises:
        ValueError: If the sizes differ.
    """
    if prediction.shape[-2:] != labels.shape:
        raise ValueError(
            f'{name}: predicted in size {prediction.shape[-2:]}, but gt_sem_seg is of size '
            f'{labels.shape}: load annotations after resizing'
        )
    ignored = labels == ignore_index
    classes: Sequence[int] = range(len(prediction))
    if prediction.ndim == 2:
        classes = np.union1d(prediction, labels[~ignored]).tolist()
    lowest = 1 / (settings['thresholds'] + 1)
    counts = {}
    for number in classes:
        any_class = prediction.ndim == 3 and len(prediction) == 1
        truth = mask_boundaries(labels if any_class else labels == number, 1, ignored)
        if prediction.ndim == 2:
            found = mask_boundaries(prediction == number, 1, ignored).astype(float)
        else:
            found = np.where(ignored, 0, prediction[number]).astype(float)
        if truth.any() or found.max() >= lowest:
            counts[number] = count_boundaries(found, truth[None], **settings)
    return counts
