"""Boundary detection scored as by the BSDS benchmark: ODS, OIS, AP and R50."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...io.boundary_files import average_boundary_maps, check_boundary_map, read_annotations
from .matching import match_thresholds
from .nms import edge_nms
from .thinning import thin_at_thresholds

# How the papers score each data set: the largest distance of a match, and the non-maximum suppression.
PRESETS: dict[str, dict] = {
    # Structured Edges' and HED's evaluation
    'bsds': dict(max_dist=0.0075, nms=dict(radius=1, border=5, multiplier=1.01, smooth=1)),
    # RCF: 0.011 in the paper, a radius of 4 in its script
    'nyudv2': dict(max_dist=0.011, nms=dict(radius=4, border=5, multiplier=1.01, smooth=0)),
    # RCF's script, and BDCN for the distance
    'multicue': dict(max_dist=0.0075, nms=dict(radius=2, border=5, multiplier=1.01, smooth=0)),
    # DexiNed: RCF's script with 1, 5, 1.03
    'biped': dict(max_dist=0.0075, nms=dict(radius=1, border=5, multiplier=1.03, smooth=0)),
}

SMALL = 0.05  # no map of a data set whose largest value is below is on the right scale, most likely


def threshold_values(thresholds: int) -> np.ndarray:
    r"""The benchmark's thresholds, :math:`k / (n + 1)` for k from 1 to n.

    Rounded as the official code does: at values of 8 bit that equal one, a bit decides.

    Raises:
        ValueError: If ``thresholds`` is not a positive number.
    """
    if isinstance(thresholds, bool) or not isinstance(thresholds, int | np.integer) or thresholds < 1:
        raise ValueError(f'thresholds={thresholds!r} must be a whole number, 1 or more')
    return np.linspace(1 / (thresholds + 1), 1 - 1 / (thresholds + 1), thresholds)


def count_boundaries(
    probability: np.ndarray,
    annotations: np.ndarray,
    thresholds: int = 99,
    max_dist: float = 0.0075,
    thin: bool = True,
    nms: bool | Mapping[str, float] = False,
    solver: str | None = None,
) -> np.ndarray:
    """Count what a boundary map gets right, at each threshold.

    Args:
        probability (np.ndarray): Of shape (H, W), values from 0 to 1.
        annotations (np.ndarray): Booleans of shape (annotators, H, W).
        thresholds (int): n for k / (n + 1). Default: 99.
        max_dist (float): How far a match may be, as a share of the image's diagonal. Default: 0.0075.
        thin (bool): Thin the binary maps. Default: True.
        nms (bool | Mapping): Suppress non-maxima before, with :func:`edge_nms`; a mapping holds its
            arguments. Default: False.
        solver (str, optional): ``'numba'``, ``'scipy'``, or None for Numba where it is installed. Both
            count the same. Default: None.

    Returns:
        np.ndarray: Of shape (thresholds, 4): annotated pixels that are matched and all of them, both
        summed over annotators; predicted pixels that some annotator's matching uses, and all of them.

    Raises:
        ValueError: If the map is none, the annotations differ from it in size, or an argument is
            impossible.
        ImportError: For ``solver='numba'`` without Numba.
    """
    probability = check_boundary_map(np.asarray(probability), 'probability')
    annotations = np.asarray(annotations, bool)
    if annotations.ndim != 3 or annotations.shape[1:] != probability.shape:
        raise ValueError(
            f'the map is of shape {probability.shape} and the annotations are of shape '
            f'{annotations.shape}: they must be (H, W) and (annotators, H, W)'
        )
    if not 0 < max_dist < 1:
        raise ValueError(f'max_dist={max_dist!r} must be a fraction of the diagonal, from 0 to 1')
    values = threshold_values(thresholds)
    if nms or isinstance(nms, Mapping):
        arguments: Mapping[str, Any] = nms if isinstance(nms, Mapping) else {}
        probability = edge_nms(probability, **arguments)
    if thin:
        maps = thin_at_thresholds(probability, values.tolist(), solver)
    else:
        maps = probability >= values[:, None, None]
    counts = np.zeros((thresholds, 4), np.int64)
    counts[:, 1] = annotations.sum()
    counts[:, 3] = maps.sum((1, 2))
    # A radius below one pixel still matches pixels that coincide.
    radius = max_dist * float(np.hypot(*probability.shape))
    matched = match_thresholds(maps, annotations, radius, solver)
    for row, (found, right) in zip(counts, matched, strict=True):
        row[0], row[2] = found.sum(), right.sum()
    return counts


def count_image(
    probability: np.ndarray | str | os.PathLike | Sequence[str | os.PathLike],
    annotations: str | os.PathLike,
    name: str,
    settings: Mapping[str, Any],
) -> np.ndarray:
    """Count what the boundary map of an image gets right: what the processes of a pool do.

    Args:
        probability (np.ndarray | str | PathLike | Sequence): The map, or its file; or the files of
            several maps, which are averaged.
        annotations (str | PathLike): What :func:`mmdla.io.boundary_files.read_annotations` reads.
        name (str): The image's, for messages.
        settings (Mapping): Of :func:`count_boundaries`.

    Raises:
        ValueError: If map and annotations differ in size, or one is none.
    """
    if not isinstance(probability, np.ndarray):
        paths = [probability] if isinstance(probability, str | os.PathLike) else probability
        probability = average_boundary_maps(paths)
    truth = read_annotations(annotations)
    if truth.shape[1:] != probability.shape:
        raise ValueError(
            f'{name}: the boundary map is of size {probability.shape} and {annotations} of size '
            f'{truth.shape[1:]}; maps must be of the size of the original image'
        )
    try:
        return count_boundaries(probability, truth, **settings)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error


def map_values(probability: np.ndarray) -> tuple[float, float]:
    """The largest value of a map and its share of pixels of 0.5 or more, for :func:`map_hints`."""
    return float(probability.max()), float((probability >= 0.5).mean())


def map_hints(values: Mapping[str, tuple[float, float]], lowest: float) -> list[str]:
    """Describe what is likely wrong with the maps of a data set, in a sentence for each mistake.

    Args:
        values (Mapping[str, tuple[float, float]]): Of each image, what :func:`map_values` returns.
        lowest (float): The lowest threshold.

    Returns:
        list[str]: Empty if nothing looks wrong: that a map is of another scale, inverted or empty is
        judged by the values of all images.
    """
    largest = max(high for high, _ in values.values())
    light = sum(share for _, share in values.values()) / len(values)
    empty = [name for name, (high, _) in values.items() if high == 0]
    hints = []
    if 0 < largest < max(lowest, SMALL):
        hint = f'the largest value of all maps is {largest:.2g} on the range of 0 to 1'
        if largest < lowest:
            hint += f', below the lowest threshold of {lowest:.2g}, so that no boundary is found'
        if any(abs(largest * scale - 1) < 1e-3 for scale in (255, 65535)):
            hint += '; were 0 and 1 saved as integers? A boundary must be 255 in 8 bits, 65535 in 16.'
        elif largest <= 255 / 65535:
            hint += '; were 0 to 255 saved in 16 bits? Save them in 8 bits, or multiply them by 257.'
        else:
            hint += '; is their scale another?'
        hints.append(hint)
    if light > 0.5:
        hints.append(
            f'on average {100 * light:.0f}% of the pixels of a map are 0.5 or more; are the maps '
            'inverted (dark on white)? Boundaries must be bright on dark.'
        )
    if empty:
        hints.append(
            f'{len(empty)} of {len(values)} maps are 0 everywhere, without any boundary: '
            f'{", ".join(empty[:5])}{", ..." if len(empty) > 5 else "."}'
        )
    return hints


def prepare_solver(solver: str | None = None) -> None:
    """Count once, so that what Numba compiles, or loads from its cache, is there."""
    count_boundaries(np.eye(8), np.eye(8, dtype=bool)[None], thresholds=2, max_dist=0.1, solver=solver)


def counting_pool(processes: int) -> ProcessPoolExecutor:
    """Processes that count images, each with one thread; started as multiprocessing is set to."""
    return ProcessPoolExecutor(processes, initializer=cv2.setNumThreads, initargs=(0,))


def best_maps(
    counts: Sequence[Mapping[str, np.ndarray]],
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Choose for each image the map that is best at its own best threshold.

    For detectors that predict maps of several granularities of an image.

    Args:
        counts (Sequence[Mapping[str, np.ndarray]]): Of each granularity, the counts of images by name.

    Returns:
        tuple[dict, dict]: The counts of the chosen maps, and which was chosen, from 0, both by name. Of
        equal ones the first is chosen.

    Raises:
        ValueError: If the granularities are of different images.
    """
    names = list(counts[0])
    if any(set(each) != set(names) for each in counts):
        raise ValueError('the granularities must be of the same images')
    best = np.array([BoundaryScores.of({n: each[n] for n in names}).images()[:, 3] for each in counts])
    chosen = dict(zip(sorted(names), best.argmax(0).tolist()))
    return {name: counts[chosen[name]][name] for name in names}, {name: chosen[name] for name in names}


def precision_recall(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, precision and F of counts of shape (..., 4); 0 where nothing is there to be counted."""
    found, annotated, right, predicted = np.moveaxis(counts.astype(float), -1, 0)
    recall = found / np.maximum(annotated, 1)
    precision = right / np.maximum(predicted, 1)
    return recall, precision, f_measure(recall, precision)


def f_measure(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    r"""Harmonic mean, :math:`F = 2PR / (P + R)`; 0 if both are."""
    total = np.asarray(recall + precision)
    return 2 * precision * recall / np.where(total == 0, 1, total)


def best_point(
    thresholds: np.ndarray, recall: np.ndarray, precision: np.ndarray
) -> tuple[float, float, float, float]:
    """Threshold, recall, precision and F where F is largest, also between neighbouring thresholds.

    There recall and precision are interpolated linearly, at a hundred points, as by the official code.
    """
    share = np.linspace(0, 1, 100)[:-1]

    def between(values: np.ndarray) -> np.ndarray:
        steps = values[:-1, None] * (1 - share) + values[1:, None] * share
        return np.append(steps.ravel(), values[-1])

    t, r, p = between(thresholds), between(recall), between(precision)
    f = f_measure(r, p)
    k = int(f.argmax())
    return float(t[k]), float(r[k]), float(p[k]), float(f[k])


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under precision over recall, on a grid of 0.01, 0 beyond the recalls that are reached."""
    reached, index = np.unique(recall, return_index=True)
    grid = np.linspace(0, 1, 101)
    return float(np.interp(grid, reached, precision[index], left=0, right=0).sum() * 0.01)


def recall_at_half(recall: np.ndarray, precision: np.ndarray) -> float:
    """Recall where precision is 50 %, or lowest if never that low; 0 if it is never that high."""
    reached, index = np.unique(precision, return_index=True)
    return float(np.interp(0.5, reached, recall[index], right=0))


@dataclass(frozen=True)
class BoundaryScores:
    """The benchmark's scores of a data set.

    Attributes:
        names (tuple[str, ...]): Of the images.
        thresholds (np.ndarray): Of shape (n,).
        counts (np.ndarray): Of shape (images, n, 4), see :func:`count_boundaries`.
    """

    names: tuple[str, ...]
    thresholds: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, counts: Mapping[str, np.ndarray]) -> BoundaryScores:
        """The scores of images, by name; in order of name, so that no other order matters.

        Raises:
            ValueError: If there is no image.
        """
        if not counts:
            raise ValueError('there is no image to evaluate')
        names = tuple(sorted(counts))
        stacked = np.stack([counts[name] for name in names])
        return cls(names, threshold_values(stacked.shape[1]), stacked)

    def curve(self) -> np.ndarray:
        """Threshold, recall, precision, F of the summed counts: a row a threshold."""
        return np.stack([self.thresholds, *precision_recall(self.counts.sum(0))], axis=1)

    def images(self) -> np.ndarray:
        """Best threshold, recall, precision, F of each image: a row an image."""
        recall, precision, _ = precision_recall(self.counts)
        return np.array([best_point(self.thresholds, r, p) for r, p in zip(recall, precision)])

    def summary(self) -> dict[str, float]:
        """The scores.

        Returns:
            dict[str, float]: ``ODS`` and ``OIS``, F at one threshold for all images and at each
            image's best, with ``threshold``, ``recall`` and ``precision`` of the first and
            ``OIS_recall``, ``OIS_precision`` of the second; ``AP``; ``R50``.
        """
        recall, precision, _ = precision_recall(self.counts.sum(0))
        threshold, ods_recall, ods_precision, ods = best_point(self.thresholds, recall, precision)
        best = precision_recall(self.counts)[2].argmax(1)
        at_best = self.counts[np.arange(len(best)), best].sum(0)
        ois_recall, ois_precision, ois = (float(value) for value in precision_recall(at_best))
        return dict(
            ODS=ods,
            OIS=ois,
            AP=average_precision(recall, precision),
            R50=recall_at_half(recall, precision),
            threshold=threshold,
            recall=ods_recall,
            precision=ods_precision,
            OIS_recall=ois_recall,
            OIS_precision=ois_precision,
        )
