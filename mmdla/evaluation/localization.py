"""Weakly-supervised localization: boxes from a classifier's maps, and their evaluation.

Boxes are x0, y0, x1, y1 in pixels of the network's input image, in continuous coordinates: pixel 0
extends from 0 to 1, and a box of one pixel has width 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmpretrain.registry import METRICS as MMPRETRAIN_METRICS

from ..registry import METRICS


def dominant_box(
    class_maps: torch.Tensor | np.ndarray,
    label: int,
    thresholds: Sequence[float],
    img_shape: tuple[int, int],
) -> np.ndarray:
    """DRN's box of a class: the smallest that contains all cells where the class wins and exceeds t.

    The responses of a cell are the softmax over the classes. The class with the largest response wins;
    if several are equal, the lowest label does. Cell (i, j) of an h x w map covers the part of the
    image between i H/h and (i+1) H/h, j W/w and (j+1) W/w.

    Args:
        class_maps (Tensor | ndarray): Logits, (classes, h, w).
        label (int): The class.
        thresholds (Sequence[float]): Values of t.
        img_shape (tuple[int, int]): H and W of the image that the maps cover.

    Returns:
        ndarray: A box for each threshold, (thresholds, 4); zeros if no cell exceeds it.

    Source: DRN paper, section on localization.
    """
    maps = torch.as_tensor(class_maps)
    i, j = (maps.argmax(0) == label).nonzero(as_tuple=True)
    logits = maps[:, i, j].double()
    # 1 / sum(exp) rather than exp(-logsumexp), which is not exact for equal logits.
    responses = 1 / (logits - logits.amax(0)).exp().sum(0)
    response, order = (x.cpu().numpy() for x in responses.sort(descending=True, stable=True))
    rows, columns = i.cpu().numpy()[order], j.cpu().numpy()[order]
    # The box of the k largest responses, for every k.
    low = np.minimum.accumulate(np.stack([columns, rows], 1))
    high = np.maximum.accumulate(np.stack([columns, rows], 1)) + 1
    (h, w), (height, width) = maps.shape[1:], img_shape
    hulls = np.concatenate([low, high], 1) * (width, height, width, height) / (w, h, w, h)
    above = np.searchsorted(-response, -np.asarray(thresholds, float))
    boxes = np.zeros((len(above), 4))
    boxes[above > 0] = hulls[above[above > 0] - 1]
    return boxes


def contour_boxes(
    class_map: torch.Tensor | np.ndarray,
    thresholds: Sequence[float],
    img_shape: tuple[int, int],
) -> list[np.ndarray]:
    """wsolevaluation's boxes of a class: those of the contours of its map at a threshold.

    The map is resized to the image (bicubic), stretched to 0-255 and truncated to integers. The
    contours of the pixels above the integer part of 255 t are traced, including those of holes. A box
    extends one pixel beyond its contour on the right and below, within the image: wsolevaluation's
    boxes end at x + width *inclusive*, so the overlaps are equal. A constant map has no box.

    Args:
        class_map (Tensor | ndarray): Scores of the class, (h, w), in any range.
        thresholds (Sequence[float]): Values of t, from 0 to 1.
        img_shape (tuple[int, int]): Height and width of the image that the map covers.

    Returns:
        list[ndarray]: The boxes for each threshold, (n, 4), beginning with that of the contour with the
        largest area; (0, 4) if there is none.

    Source: Choe et al., Evaluating Weakly Supervised Object Localization Methods Right; its code.
    """
    scores = torch.as_tensor(class_map).double().cpu().numpy()
    none = [np.zeros((0, 4))] * len(thresholds)
    if scores.min() == scores.max():
        return none
    height, width = img_shape
    scores = cv2.resize(scores, (width, height), interpolation=cv2.INTER_CUBIC)
    scores -= scores.min()
    if not scores.any():
        return none
    levels = (scores / scores.max() * 255).astype(np.uint8)
    present = np.unique(levels)
    found: dict[int, np.ndarray] = {}
    boxes = []
    for threshold in thresholds:
        cut = int(threshold * 255)
        # Cuts with the same levels below them have the same result.
        below = int(np.searchsorted(present, cut, side='right'))
        if below not in found:
            found[below] = _trace(levels > cut)
        boxes.append(found[below])
    return boxes


def _trace(mask: np.ndarray) -> np.ndarray:
    """Boxes of a mask's contours, (n, 4), the largest contour's first."""
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
    if not contours:
        return np.zeros((0, 4))
    contours = sorted(contours, key=cv2.contourArea, reverse=True)
    x, y, w, h = np.array([cv2.boundingRect(contour) for contour in contours], float).T
    height, width = mask.shape
    return np.stack([x, y, np.minimum(x + w + 1, width), np.minimum(y + h + 1, height)], 1)


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with each other, (n, 4) and (m, 4) to (n, m)."""
    a, b = np.asarray(boxes, float)[:, None], np.asarray(others, float)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inside = sides.clip(0).prod(-1)
    total = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    return np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)


@METRICS.register_module()
@MMPRETRAIN_METRICS.register_module()
class LocalizationMetric(BaseMetric):
    """Top-k localization error, GT-known accuracy, MaxBoxAcc and MaxBoxAccV2, in %.

    An image is correct at a threshold if the IoU of the box of its own class and a true box is large
    enough. A threshold applies to all images. The best threshold is the one with the most correct
    images; if several are equal, the lowest.

    ==================== =================================================================
    ``threshold``        the given one, or else the best for ``gt_known``
    ``gt_known``         images correct at it: IoU at least 0.5, one box per image
    ``top{k}_error``     images wrong at it, or whose class is not among the k best scores
    ``MaxBoxAcc``        ``gt_known`` at this data set's best threshold
    ``MaxBoxAccV2``      images for which the box of any contour is correct; mean over
                         ``iou_thrs``, each at this data set's best threshold
    ``thresholdV2_{p}``  the given one, or else the best for IoU p %
    ``BoxAccV2``         like MaxBoxAccV2, at the given thresholds (if there are any)
    ==================== =================================================================

    Each data sample needs ``class_maps`` (classes, h, w), logits that cover exactly the image (padding
    by the data preprocessor, ``pad_size_divisor``, cannot be detected here); ``pred_score`` (classes,);
    ``gt_label`` (1,); ``gt_bboxes`` (n, 4), the boxes of that class as x0, y0, x1, y1 in pixels of the
    network's input; and ``img_shape``, the input's height and width.

    Args:
        rule (str): How maps become boxes: ``'dominant'`` (:func:`dominant_box`, one box per image, for
            V2 too) or ``'contour'`` (:func:`contour_boxes`). Default: ``'dominant'``.
        thresholds (int | Sequence[float]): Thresholds to try, from 0 to below 1; a number n stands for
            k/n. Default: 100.
        iou_thrs (Sequence[float]): IoU thresholds of V2. Default: (0.3, 0.5, 0.7).
        threshold (float | dict, optional): Threshold that was chosen on other data, such as validation
            data; or a dict with ``threshold`` and all ``thresholdV2_{p}``. Default: None, the best on
            these data.
        topk (Sequence[int]): Values of k. Default: (1, 5).
        no_boxes (str): For an image whose boxes were all cropped away: ``'raise'`` an error, or count
            it as wrong, ``'miss'``. Default: ``'raise'``.
        **kwargs: Of :class:`mmengine.evaluator.BaseMetric`. The default prefix is ``'localization'``.

    Raises:
        ValueError: If an argument or a data sample is invalid, or if the images of a batch differ in
            size, so that maps would cover padding.

    Source: DRN paper (IoU must exceed 0.5); ILSVRC's development kit and wsolevaluation (IoU must be at
    least 0.5, as here).
    """

    default_prefix = 'localization'
    IOU_THR = 0.5

    def __init__(
        self,
        rule: str = 'dominant',
        thresholds: int | Sequence[float] = 100,
        iou_thrs: Sequence[float] = (0.3, 0.5, 0.7),
        threshold: float | Mapping[str, float] | None = None,
        topk: Sequence[int] = (1, 5),
        no_boxes: str = 'raise',
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for name, value, choices in (
            ('rule', rule, ('dominant', 'contour')),
            ('no_boxes', no_boxes, ('raise', 'miss')),
        ):
            if value not in choices:
                raise ValueError(f'{name}={value!r} must be one of {choices}')
        if isinstance(thresholds, (int, np.integer)):
            if thresholds < 1:
                raise ValueError(f'thresholds={thresholds} must be 1 or more, or the values')
            thresholds = [k / int(thresholds) for k in range(thresholds)]
        self.thresholds = sorted({_share('thresholds', t) for t in thresholds})
        self.iou_thrs = [_share('iou_thrs', p, above=0, up_to=1) for p in iou_thrs]
        self.topk = tuple(topk)
        if not (self.thresholds and self.iou_thrs):
            raise ValueError(f'thresholds={thresholds} and iou_thrs={iou_thrs} must not be empty')
        if not self.topk or not all(isinstance(k, Integral) and k > 0 for k in self.topk):
            raise ValueError(f'topk={topk} must be positive integers')
        self.rule = rule
        self.no_boxes = no_boxes
        self.names_v2 = [f'thresholdV2_{100 * p:g}' for p in self.iou_thrs]
        self.given: dict[str, float] = {}
        if threshold is not None:
            self.use_thresholds(threshold)

    def use_thresholds(self, threshold: float | Mapping[str, float]) -> None:
        """Use thresholds that were chosen on other data; see the argument ``threshold``.

        Raises:
            ValueError: If a name or a value is invalid.
            RuntimeError: If images have been evaluated already.
        """
        if self.results:
            raise RuntimeError('the thresholds must be given before the first image')
        given = dict(threshold) if isinstance(threshold, Mapping) else dict(threshold=threshold)
        names = ({'threshold'}, {'threshold', *self.names_v2})
        if set(given) not in names:
            raise ValueError(
                f'threshold={threshold} must be a number or have the keys {sorted(names[1])} (or '
                "'threshold' alone)"
            )
        self.given = {name: _share(name, value) for name, value in given.items()}

    def chosen(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Thresholds for :meth:`use_thresholds`, from this metric's results on other data."""
        return {name: metrics[f'{self.prefix}/{name}'] for name in ('threshold', *self.names_v2)}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the rank of each image's class, and the thresholds at which it is correct."""
        inputs = data_batch.get('inputs') if isinstance(data_batch, Mapping) else None
        if inputs is not None:
            self._check_sizes(inputs, data_samples)
        thresholds = [*self.thresholds, *self.given.values()]
        for sample in data_samples:
            try:
                maps, scores, label, truth, shape = self._read(sample)
            except ValueError as error:
                raise ValueError(f'{error} (img_path: {sample.get("img_path")})') from None
            rank = int((scores > scores[label]).sum() + (scores[:label] == scores[label]).sum())
            if self.rule == 'dominant':
                boxes = list(dominant_box(maps, label, thresholds, shape)[:, None])
            else:
                boxes = contour_boxes(maps[label], thresholds, shape)
            single, every = _best_overlaps(boxes, truth)
            self.results.append(
                dict(
                    rank=rank,
                    right=single >= self.IOU_THR,
                    right_v2=every >= np.array(self.iou_thrs)[:, None],
                )
            )

    @staticmethod
    def _check_sizes(inputs: Any, samples: Sequence[dict]) -> None:
        """Check that images are not padded in the batch, so that the maps cover exactly the images."""
        sizes = [tuple(image.shape[-2:]) for image in inputs]
        if len(set(sizes)) > 1:
            raise ValueError(
                f'the images of a batch are of sizes {sorted(set(sizes))}: the smaller ones are padded '
                'and their class_maps cover the padding; use batch_size=1, or resize all to one size'
            )
        for size, sample in zip(sizes, samples, strict=True):
            shape = sample.get('img_shape')
            if shape is not None and tuple(shape[:2]) != size:
                raise ValueError(
                    f'img_shape={tuple(shape)} must be the size of the input, {size}: a transform has '
                    'changed the image without updating img_shape'
                )

    def _read(self, sample: dict) -> tuple[torch.Tensor, np.ndarray, int, np.ndarray, tuple[int, int]]:
        """Maps, scores, label, true boxes and image size of a data sample, checked."""
        needed = ('class_maps', 'pred_score', 'gt_label', 'gt_bboxes', 'img_shape')
        missing = [key for key in needed if sample.get(key) is None]
        if missing:
            advice = dict(
                class_maps="class_maps come from neck=None, head=dict(type='mmdla.ClassMapHead', ...)",
                gt_bboxes='gt_bboxes come from a data set with boxes and '
                "PackInputs(algorithm_keys=['gt_bboxes'])",
            )
            hints = '; '.join(advice[key] for key in missing if key in advice)
            raise ValueError(f'a data sample lacks {missing} of {needed}' + (hints and f'; {hints}'))
        maps, scores, labels, boxes = (torch.as_tensor(sample[key]).detach() for key in needed[:4])
        if maps.ndim != 3 or scores.shape != maps.shape[:1] or not maps.numel():
            raise ValueError(
                f'class_maps {tuple(maps.shape)} and pred_score {tuple(scores.shape)} must be of shape '
                '(classes, h, w) and (classes,)'
            )
        if len(scores) < max(self.topk):
            raise ValueError(f'topk={self.topk}: must not exceed the {len(scores)} classes')
        for name, value in (('class_maps', maps), ('pred_score', scores), ('gt_bboxes', boxes)):
            if not value.isfinite().all():
                raise ValueError(f'{name} must be finite, it has infinite values or NaN')
        found = labels.flatten().tolist()
        if len(found) != 1 or not 0 <= found[0] < len(scores):
            raise ValueError(f'gt_label={found} must be one label from 0 to {len(scores) - 1}')
        truth = boxes.double().cpu().numpy()
        if truth.ndim != 2 or truth.shape[1] != 4 or not (truth[:, 2:] > truth[:, :2]).all():
            raise ValueError(
                f'gt_bboxes={truth.tolist()} must be rows x0, y0, x1, y1 with x0 < x1 and y0 < y1'
            )
        if not len(truth) and self.no_boxes == 'raise':
            raise ValueError(
                'gt_bboxes is empty: crops have removed all boxes of the image, or it has none; '
                "resize the image without cropping, or count it as wrong with no_boxes='miss'"
            )
        height, width = sample['img_shape'][:2]
        return maps, scores.float().cpu().numpy(), found[0], truth, (int(height), int(width))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """The metrics of a data set."""
        if not results:
            raise ValueError('there is no image to evaluate')
        rank = np.array([r['rank'] for r in results])
        right = np.stack([r['right'] for r in results])
        right_v2 = np.stack([r['right_v2'] for r in results])
        column = {t: i for i, t in enumerate([*self.thresholds, *self.given.values()])}
        tried = len(self.thresholds)

        def best(hits: np.ndarray) -> float:
            """The threshold with the most correct images, the lowest of equal ones."""
            return self.thresholds[hits[:, :tried].sum(0).argmax()]

        def percent(hits: np.ndarray) -> float:
            return 100 * float(hits.mean())

        own = dict(threshold=best(right))
        for i, name in enumerate(self.names_v2):
            own[name] = best(right_v2[:, i])
        used = {**own, **self.given}
        known = right[:, column[used['threshold']]]
        metrics = dict(threshold=used['threshold'], gt_known=percent(known))
        for k in self.topk:
            metrics[f'top{k}_error'] = percent(~(known & (rank < k)))
        metrics['MaxBoxAcc'] = percent(right[:, column[own['threshold']]])
        for name, source in (('MaxBoxAccV2', own), ('BoxAccV2', self.given)):
            if self.names_v2[0] in source:
                columns = [column[source[v2]] for v2 in self.names_v2]
                metrics[name] = percent(np.stack([right_v2[:, i, c] for i, c in enumerate(columns)]))
        metrics.update((name, used[name]) for name in self.names_v2)
        return metrics


def _best_overlaps(boxes: Sequence[np.ndarray], truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest IoU with a true box at each threshold: of the first box, and of any; else 0."""
    counts = np.array([len(candidates) for candidates in boxes])
    single, every = np.zeros((2, len(boxes)))
    if counts.any() and len(truth):
        overlaps = box_iou(np.concatenate(boxes), truth).max(1)
        first = (counts.cumsum() - counts)[counts > 0]
        single[counts > 0] = overlaps[first]
        every[counts > 0] = np.maximum.reduceat(overlaps, first)
    return single, every


def _share(name: str, value: float, above: float | None = None, up_to: float | None = None) -> float:
    """A number from 0 to below 1, or above one bound and up to another; ValueError if it is not."""
    inside = isinstance(value, Real) and (0 <= value < 1 if above is None else above < value <= up_to)
    if not inside:
        span = '0 <= x < 1' if above is None else f'{above} < x <= {up_to}'
        raise ValueError(f'{name}: {value!r} must be a number with {span}')
    return float(value)
