"""Boundary maps made thin: morphological thinning at many thresholds, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .solvers import choose_solver

# Neighbours x1 ... x8, counter-clockwise from the right.
NEIGHBOURS = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))

CHUNK = 8192  # pixels at a time, so that what is computed of them stays in the cache


def thin_at_thresholds(
    probability: np.ndarray, thresholds: Sequence[float], solver: str | None = None
) -> np.ndarray:
    r"""Binarize a map at each threshold, :math:`p \ge t`, and thin it until nothing changes.

    A pixel goes if all three hold; the second half-step has the third condition turned by 180 degrees:

    .. math::
        X_H = 1, \qquad 2 \le \min(n_1, n_2) \le 3, \qquad (x_2 \lor x_3 \lor \bar x_8) \land x_1 = 0

    with :math:`X_H = \sum_{i=1}^4 \bar x_{2i-1} \land (x_{2i} \lor x_{2i+1})`, :math:`n_1 = \sum_i
    x_{2i-1} \lor x_{2i}` and :math:`n_2 = \sum_i x_{2i} \lor x_{2i+1}`. All thresholds are thinned at
    once, each a bit of a word.

    Args:
        probability (np.ndarray): Of shape (H, W).
        thresholds (Sequence[float]): They must rise.
        solver (str, optional): ``'numba'``, ``'scipy'`` for NumPy, or None for Numba where it is
            installed. Both return the same. Default: None.

    Returns:
        np.ndarray: Booleans of shape (thresholds, H, W).

    Raises:
        ValueError: If the thresholds do not rise.
        ImportError: For ``solver='numba'`` without Numba.

    Source: Guo and Hall, Parallel Thinning with Two-Subiteration Algorithms, 1989, A1; the same as
    MATLAB's ``bwmorph(..., 'thin', inf)``, which the official benchmark uses, and scikit-image's
    ``thin``.
    """
    levels = np.asarray(thresholds, float)
    if levels.ndim != 1 or not (np.diff(levels) > 0).all():
        raise ValueError(f'thresholds={levels.tolist()} must rise')
    height, width = probability.shape
    compiled = choose_solver(solver)
    above = np.searchsorted(levels, probability, side='right')
    thinned = np.empty((len(thresholds), height, width), bool)
    for first in range(0, len(thresholds), 64):
        bits = min(64, len(thresholds) - first)
        # the lowest k bits, for k thresholds passed
        words = np.array([(1 << k) - 1 for k in range(bits + 1)], np.uint64)
        padded = np.pad(words[np.clip(above - first, 0, bits)], 1)
        if compiled is None:
            _thin(padded)
        else:
            compiled.thin_words(padded, _offsets(padded.shape[1]))
        inner = padded[1:-1, 1:-1]
        for bit in range(bits):
            thinned[first + bit] = (inner >> np.uint64(bit)) & np.uint64(1)
    return thinned


def _offsets(width: int) -> np.ndarray:
    """Steps to the neighbours in the flat array of an image."""
    return np.array([y * width + x for y, x in NEIGHBOURS])


def _thin(words: np.ndarray) -> None:
    """Thin 64 binary images, a bit each, in place; with a border of zeros."""
    flat = words.reshape(-1)
    offsets = _offsets(words.shape[1])
    # A half-step looks anew at what has a neighbour that changed since it looked last.
    candidates = changed = np.flatnonzero(flat)
    half = 0
    while len(candidates):
        # x[k] is x_(k+1) of the docstring; half a turn on in the second half-step
        turned = np.roll(offsets, -half)
        gone = np.empty(len(candidates), np.uint64)
        for first in range(0, len(candidates), CHUNK):
            some = candidates[first : first + CHUNK]
            x = [flat[some + offset] for offset in turned]
            gone[first : first + CHUNK] = flat[some] & _removable(x)
        found = gone != 0
        before, changed = changed, candidates[found]
        flat[changed] &= ~gone[found]
        near = np.zeros(flat.shape, bool)
        for offset in (0, *offsets):
            near[changed + offset] = near[before + offset] = True
        candidates = np.flatnonzero(near & (flat != 0))
        half = 4 - half


def _removable(x: Sequence[np.ndarray]) -> np.ndarray:
    """The bits of which all three conditions hold, given the eight neighbours."""
    pairs = [x[k] | x[(k + 1) % 8] for k in range(8)]
    crossings = [~x[k] & pairs[k + 1] for k in (0, 2, 4, 6)]
    one_crossing = _sum_is_one(crossings)
    # n1 >= 2 and n2 >= 2, and not both of them 4
    odd, even = pairs[0::2], pairs[1::2]
    enough = _two_or_more(odd) & _two_or_more(even)
    all_four = (odd[0] & odd[1] & odd[2] & odd[3]) & (even[0] & even[1] & even[2] & even[3])
    side = (x[1] | x[2] | ~x[7]) & x[0]
    return one_crossing & enough & ~all_four & ~side


def _sum_is_one(bits: Sequence[np.ndarray]) -> np.ndarray:
    a, b, c, d = bits
    return ((a ^ b) & ~(c | d)) | ((c ^ d) & ~(a | b))


def _two_or_more(bits: Sequence[np.ndarray]) -> np.ndarray:
    a, b, c, d = bits
    return (a & b) | (c & d) | ((a | b) & (c | d))
