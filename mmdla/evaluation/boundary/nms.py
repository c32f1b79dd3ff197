"""Non-maximum suppression of boundary maps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np


def edge_nms(
    probability: np.ndarray,
    radius: int = 1,
    border: int = 5,
    multiplier: float = 1.01,
    smooth: int = 1,
) -> np.ndarray:
    r"""Keep what is the largest across the boundary, and set everything else to 0.

    The normal's direction comes from the second derivatives of the map :math:`E`, smoothed by a
    triangle of radius 4:

    .. math:: \theta = \arctan\left(\frac{-\operatorname{sign}(E_{xy}) E_{yy}}{E_{xx}}\right) \bmod \pi

    A pixel stays if, times ``multiplier``, it is at least as large as the interpolated values at
    distances 1 to ``radius`` on both sides.

    Args:
        probability (np.ndarray): Of shape (H, W), values from 0 to 1.
        radius (int): In pixels. Default: 1.
        border (int): Over this many pixels from the image's edge, values fall to 0 towards it.
            Default: 5.
        multiplier (float): Default: 1.01.
        smooth (int): Radius of the triangle that the map itself is smoothed by before; 0 for none.
            Default: 1.

    Returns:
        np.ndarray: Of the same shape, float64.

    Raises:
        ValueError: If an argument is impossible.

    Source: the suppression of Structured Edges (Dollar and Zitnick, 2015), as used before the BSDS
    benchmark since, with its settings.
    """
    from scipy.ndimage import map_coordinates

    if probability.ndim != 2 or min(probability.shape) < 2:
        raise ValueError(f'probability of shape {probability.shape} must be a map, 2x2 or larger')
    for name, number, least in (('radius', radius, 1), ('border', border, 0), ('smooth', smooth, 0)):
        if not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f'{name}={number!r} must be an integer number of pixels, {least} or more')
    if not multiplier > 0:
        raise ValueError(f'multiplier={multiplier!r} must be positive')
    edges = _triangle(np.asarray(probability, float), smooth)
    dy, dx = np.gradient(_triangle(edges, 4))
    dyy, (dxy, dxx) = np.gradient(dy, axis=0), np.gradient(dx)
    # Of a level boundary, where dxy is 0, the normal points up: a sign of 0 would turn it.
    angle = np.arctan(dyy * np.where(dxy > 0, -1, 1) / (dxx + 1e-5)) % np.pi

    y, x = np.nonzero(edges)
    value = edges[y, x] * multiplier
    step_y, step_x = np.sin(angle[y, x]), np.cos(angle[y, x])
    largest = np.ones(len(y), bool)
    for distance in (*range(-radius, 0), *range(1, radius + 1)):
        beside = map_coordinates(
            edges, [y + distance * step_y, x + distance * step_x], order=1, mode='nearest'
        )
        largest &= value >= beside
    kept = np.zeros_like(edges)
    kept[y[largest], x[largest]] = edges[y[largest], x[largest]]
    if border:
        ramps = (np.minimum(np.arange(n), np.arange(n)[::-1]) / border for n in edges.shape)
        kept *= np.outer(*(np.minimum(ramp, 1) for ramp in ramps))
    return kept


def crispness(probability: np.ndarray, **settings: Any) -> float:
    r"""How crisp the boundaries of a map are: the share of its values that suppression leaves.

    .. math:: C = \frac{\sum_i \mathrm{NMS}(E)_i}{\sum_i E_i}

    1 for lines of one pixel away from the image's edge. Its mean over the images of a data set is the
    average crispness, AC.

    Args:
        probability (np.ndarray): The map :math:`E` as predicted, of shape (H, W).
        **settings: Of :func:`edge_nms`. Default: ``radius=2``, ``border=5``, ``multiplier=1.01`` and
            ``smooth=0``, as in the released code.

    Returns:
        float: From 0 to 1; NaN for a map that is 0 everywhere.

    Source: Ye et al., Delving into Crispness: Guided Label Refinement for Crisp Edge Detection, 2023.
    """
    total = float(probability.sum())
    if total == 0:
        return float('nan')
    settings = dict(radius=2, border=5, multiplier=1.01, smooth=0) | settings
    return float(edge_nms(probability, **settings).sum()) / total


def average_crispness(values: Iterable[float]) -> float:
    """Mean of the crispness of images, AC, without NaN, which maps that are 0 everywhere have."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _triangle(values: np.ndarray, radius: int) -> np.ndarray:
    """Smooth by a triangle of width 2 radius + 1 along both axes."""
    from scipy.ndimage import correlate1d

    if radius == 0:
        return values
    rise = np.arange(1, radius + 2)
    kernel = np.concatenate([rise, rise[-2::-1]]) / (radius + 1) ** 2
    return correlate1d(correlate1d(values, kernel, axis=0), kernel, axis=1)
