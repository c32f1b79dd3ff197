"""Predicted boundary pixels matched to annotated ones, exactly.

The boundary benchmark counts a predicted pixel as right if it can be given an annotated pixel nearby
that no other predicted pixel has. What is given to what is an assignment problem, on a bipartite graph
with an edge wherever a predicted pixel :math:`p` and an annotated pixel :math:`g` are at most
:math:`r` apart. Wanted is the matching :math:`M` with the least

.. math:: \\sum_{(p, g) \\in M} \\lVert p - g \\rVert - 100\\, r\\, |M|

as in the official code, whose solver is approximate; here SciPy's exact one is used. Distances count in
millionths of a pixel. Several matchings can be the best: of those the one with the most pairs is taken,
and of these the one whose predicted pixels come first in reading order (row by row: the first pixel in
which two sets differ decides). That leaves one set of matched predicted pixels, whoever computes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

UNIT = 1_000_000  # parts of a pixel in which distances count
OUTLIER_COST = 100  # times the radius: what leaving a pair unmatched costs
# Rows a call of the solver, whose time grows with rows x columns, and with the number of calls.
ROWS = 200


def match_boundaries(
    prediction: np.ndarray, truth: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Match one binary map to one annotation: the plain way, the whole graph at once.

    Args:
        prediction (np.ndarray): Booleans of shape (H, W).
        truth (np.ndarray): Likewise.
        radius (float): The largest distance of a pair, in pixels.

    Returns:
        tuple[np.ndarray, np.ndarray]: Which pixels of ``prediction`` and of ``truth`` are matched,
        booleans of shape (H, W).

    Raises:
        ValueError: If the maps differ in shape, or ``radius`` is not a positive number.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(
            f'prediction {prediction.shape} and truth {truth.shape} must be maps of one size (H, W)'
        )
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    pairs = _Pairs(truth[None], radius, prediction)
    rows, columns = int(truth.sum()), int(prediction.sum())
    number = np.cumsum(prediction.ravel()) - 1
    column = number[pairs.pixel]
    # Each row has a column of its own for finding no partner.
    graph = csr_array(
        (
            np.append(*_costs(pairs.distance, column, columns, rows, radius)),
            (np.append(pairs.truth, np.arange(rows)), np.append(column, columns + np.arange(rows))),
        ),
        shape=(rows, columns + rows),
    )
    chosen = min_weight_full_bipartite_matching(graph)[1]
    matched = chosen < columns
    right, found = np.zeros_like(prediction), np.zeros_like(truth)
    right.flat[np.flatnonzero(prediction)[chosen[matched]]] = True
    found.flat[np.flatnonzero(truth)[matched]] = True
    return right, found


def match_thresholds(
    maps: np.ndarray, annotations: np.ndarray, radius: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Match the maps of rising thresholds to every annotation: as one by one, but faster.

    The graph falls into connected components, each a problem of its own. One is solved anew only where
    it must be: if since the last map no predicted pixel has joined it, and none that was matched has
    left it, its best matching is still the best, as it was among more.

    Args:
        maps (np.ndarray): Booleans of shape (thresholds, H, W).
        annotations (np.ndarray): Booleans of shape (annotators, H, W).
        radius (float): The largest distance of a pair, in pixels.

    Yields:
        tuple[np.ndarray, np.ndarray]: For each map, how many pixels of each annotation are matched,
        of shape (annotators,); and which pixels of the map some annotation's matching uses, booleans
        of shape (H, W).

    Raises:
        ValueError: If the maps differ in shape, or ``radius`` is not a positive number.
    """
    maps, annotations = np.asarray(maps, bool), np.asarray(annotations, bool)
    shape, size = maps.shape[1:], maps[0].size
    if maps.ndim != 3 or annotations.ndim != 3 or annotations.shape[1:] != shape:
        raise ValueError(
            f'maps {maps.shape} and annotations {annotations.shape} must be of shapes '
            '(thresholds, H, W) and (annotators, H, W)'
        )
    pairs = _Pairs(annotations, radius, maps.any(0))
    annotator = np.flatnonzero(annotations) // size
    partners = np.full(len(annotator), -1)  # flat index of the predicted pixel, -1 for none
    before = np.zeros(size, bool)
    for now in maps.reshape(-1, size):
        _update(partners, pairs, before, now, radius)
        before = now
        matched = partners >= 0
        right = np.zeros(size, bool)
        right[partners[matched]] = True
        yield np.bincount(annotator[matched], minlength=len(annotations)), right.reshape(shape)


class _Pairs:
    """Annotated pixels and the pixels within the radius of them.

    Of each pair: ``truth``, the number of the annotated pixel among those of all annotations;
    ``pixel``, the flat index of the other; ``vertex``, that index with the annotations one behind the
    other; ``distance``, in units. Sorted by ``truth``. Only pixels that are ``wanted``.
    """

    def __init__(self, annotations: np.ndarray, radius: float, wanted: np.ndarray):
        if not radius > 0:
            raise ValueError(f'radius={radius} must be a positive number of pixels')
        height, width = annotations.shape[1:]
        # further than the image is wide there is nothing
        down, right = min(int(radius), height - 1), min(int(radius), width - 1)
        y, x = np.mgrid[-down : down + 1, -right : right + 1]
        squared = x * x + y * y
        near = squared <= radius * radius
        annotator, ys, xs = np.nonzero(annotations)
        ys, xs = ys[:, None] + y[near], xs[:, None] + x[near]
        inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
        pixel = ys * width + xs
        inside[inside] = wanted.ravel()[pixel[inside]]
        truth, offset = np.nonzero(inside)
        self.truth = truth.astype(np.int32)
        self.pixel = pixel[inside].astype(np.int32)
        self.vertex = (self.pixel + annotator[truth] * (height * width)).astype(np.int32)
        self.distance = np.rint(np.sqrt(squared[near]) * UNIT).astype(np.int64)[offset]
        # where a vertex stands among those in use, when it is in use
        self.place = np.empty(annotations.size, np.int32)


def _update(
    partners: np.ndarray, pairs: _Pairs, before: np.ndarray, now: np.ndarray, radius: float
) -> None:
    """Bring the partners from the map before to the one now."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    lost = (partners >= 0) & ~now[partners]
    partners[lost] = -1
    new = now & ~before
    active = np.flatnonzero(now[pairs.pixel])
    if not (lost.any() or new.any()) or not len(active):
        return
    truth, vertex, distance = pairs.truth[active], pairs.vertex[active], pairs.distance[active]
    # Vertices: annotated pixels, then predicted ones in reading order, annotation by annotation.
    used = np.zeros(len(pairs.place), bool)
    used[vertex] = True
    predicted = np.flatnonzero(used)
    pairs.place[predicted] = np.arange(len(predicted))
    column = pairs.place[vertex]
    total = len(partners) + len(predicted)
    first = np.zeros(total + 1, np.int32)
    np.cumsum(np.bincount(truth, minlength=total), out=first[1:])
    edges = csr_array(
        (np.ones(len(truth)), column + np.int32(len(partners)), first), shape=(total, total)
    )
    amount, component = connected_components(edges, directed=False)
    of_truth, of_predicted = component[: len(partners)], component[len(partners) :]
    stale = np.zeros(amount, bool)
    stale[of_truth[lost]] = True
    stale[of_predicted[new[predicted % len(now)]]] = True

    kept = stale[of_truth[truth]]
    if not kept.any():
        return
    partners[stale[of_truth]] = -1
    ours, theirs = _solve(truth[kept], column[kept], distance[kept], component, len(partners), radius)
    partners[ours] = predicted[theirs] % len(now)


def _costs(
    distance: np.ndarray, order: np.ndarray, predicted: int, rows: int, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """What pairs cost, and what it costs to leave a row without one; whole numbers, in float64.

    Below the distance counts the place of the predicted pixel in reading order: between two matchings
    with as many pairs, each path along which they differ takes one predicted pixel for another.

    Raises:
        ValueError: If float64 does not hold such costs exactly.
    """
    outlier = round(OUTLIER_COST * radius * UNIT)
    if outlier * (predicted + 1) >= 2**51:
        raise ValueError(
            f'radius={radius:g} with {predicted} predicted pixels in reach of annotated ones: too many '
            'to be matched exactly; lower max_dist, or scale the maps down'
        )
    # An outlier costs as much as the last pixel, so that of equally good matchings the larger wins.
    return (
        distance * float(predicted + 1) + order + 1,
        np.full(rows, outlier * float(predicted + 1) + predicted + 1),
    )


def _solve(
    truth: np.ndarray,
    predicted: np.ndarray,
    distance: np.ndarray,
    component: np.ndarray,
    truths: int,
    radius: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve some components: a block matrix with some of them in each block.

    Args:
        truth (np.ndarray): Of each edge, the number of the annotated pixel.
        predicted (np.ndarray): That of the predicted pixel.
        distance (np.ndarray): How far they are apart, in units.
        component (np.ndarray): The component of each vertex, annotated pixels before predicted ones.
        truths (int): How many annotated pixels there are.
        radius (float): The largest distance.

    Returns:
        tuple[np.ndarray, np.ndarray]: The numbers of matched pixels, annotated and predicted, in pairs.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    ends = np.stack([truth, truths + predicted])
    alive = np.zeros(len(component), bool)
    alive[ends] = True
    vertices = np.flatnonzero(alive)
    sizes = np.bincount(
        2 * component[vertices] + (vertices >= truths), minlength=2 * component.max() + 2
    )
    sizes = sizes.reshape(-1, 2)
    # The smaller side are the rows: the fewer find no partner, the less is searched in vain.
    row_side, rows = sizes.argmin(1), sizes.min(1)
    order = np.argsort(-rows, kind='stable')
    block = np.empty(len(rows), int)
    block[order] = (rows[order].cumsum() - rows[order]) // ROWS
    block = np.unique(block[component[vertices]], return_inverse=True)[1]

    is_row = (vertices >= truths) == row_side[component[vertices]]
    number = np.empty(len(component), int)
    sides, starts = [], []
    for side in (is_row, ~is_row):
        index = np.flatnonzero(side)
        index = index[np.argsort(block[index], kind='stable')]
        number[vertices[index]] = np.arange(len(index))
        sides.append(vertices[index])
        starts.append(np.searchsorted(block[index], np.arange(block.max() + 2)))
    swap = row_side[component[truth]]
    row, column = number[np.where(swap, ends[::-1], ends)]
    # Behind the columns of a block comes an outlier a row of it.
    block_of = np.searchsorted(starts[0], np.arange(len(sides[0])), side='right') - 1
    column = column + starts[0][block_of[row]]
    outlier = np.arange(len(sides[0])) + starts[1][block_of + 1]
    total = len(sides[0]) + len(sides[1])
    costs = _costs(distance, predicted, len(component) - truths, len(outlier), radius)
    graph = csr_array(
        (np.append(*costs), (np.append(row, np.arange(len(outlier))), np.append(column, outlier))),
        shape=(len(outlier), total),
    )
    chosen = np.empty(len(outlier), int)
    for k, (first, last) in enumerate(pairwise(starts[0])):
        left, right = int(starts[1][k] + first), int(starts[1][k + 1] + last)
        inside = slice(graph.indptr[first], graph.indptr[last])
        part = csr_array(
            (
                graph.data[inside],
                graph.indices[inside] - left,
                graph.indptr[first : last + 1] - int(inside.start),
            ),
            shape=(last - first, right - left),
        )
        chosen[first:last] = min_weight_full_bipartite_matching(part)[1] + left
    column = chosen - starts[0][block_of]
    matched = column < starts[1][block_of + 1]
    pairs = np.sort([sides[0][matched], sides[1][column[matched]]], axis=0)
    return pairs[0], pairs[1] - truths
