"""Predicted boundary pixels matched to annotated ones, exactly.

The boundary benchmark counts a predicted pixel as right if it can be given an annotated pixel nearby
that no other predicted pixel has. What is given to what is an assignment problem, on a bipartite graph
with an edge wherever a predicted pixel :math:`p` and an annotated pixel :math:`g` are at most
:math:`r` apart. Wanted is the matching :math:`M` with the least

.. math:: \\sum_{(p, g) \\in M} \\lVert p - g \\rVert - 100\\, r\\, |M|

as in the official code, whose solver is approximate; here it is solved exactly. Distances count in
millionths of a pixel. Several matchings can be the best: of those the one with the most pairs is taken,
and of these the one whose predicted pixels come first in reading order (row by row: the first pixel in
which two sets differ decides). That leaves one set of matched predicted pixels, whoever computes it.

Two solvers compute it: SciPy's, which is the specification and always there, and
:mod:`mmdla.evaluation.boundary.compiled`, which needs Numba and is many times faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType

import numpy as np

from .solvers import choose_solver

UNIT = 1_000_000  # parts of a pixel in which distances count
OUTLIER_COST = 100  # times the radius: what leaving a pair unmatched costs
# Rows a call of the solver, whose time grows with rows x columns, and with the number of calls.
ROWS = 240


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
    cost, outlier_cost = _costs(pairs.distance, column, radius)
    # Each row has a column of its own for finding no partner.
    graph = csr_array(
        (
            np.append(cost, np.full(rows, outlier_cost)),
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
    maps: np.ndarray, annotations: np.ndarray, radius: float, solver: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Match the maps of rising thresholds to every annotation: as one by one, but faster.

    Numba's solver changes the matching of one map into that of the next. With SciPy's the graph is
    taken apart into connected components, each a problem of its own. One is solved anew only where
    it must be: if since the last map no predicted pixel has joined it, and none that was matched has
    left it, its best matching is still the best, as it was among more.

    Args:
        maps (np.ndarray): Booleans of shape (thresholds, H, W).
        annotations (np.ndarray): Booleans of shape (annotators, H, W).
        radius (float): The largest distance of a pair, in pixels.
        solver (str, optional): ``'numba'``, ``'scipy'``, or None for Numba where it is installed. Both
            return the same. Default: None.

    Yields:
        tuple[np.ndarray, np.ndarray]: For each map, how many pixels of each annotation are matched,
        of shape (annotators,); and which pixels of the map some annotation's matching uses, booleans
        of shape (H, W).

    Raises:
        ValueError: If the maps differ in shape, or ``radius`` is not a positive number.
        ImportError: For ``solver='numba'`` without Numba.
    """
    maps, annotations = np.asarray(maps, bool), np.asarray(annotations, bool)
    shape = maps.shape[1:]
    if maps.ndim != 3 or annotations.ndim != 3 or annotations.shape[1:] != shape:
        raise ValueError(
            f'maps {maps.shape} and annotations {annotations.shape} must be of shapes '
            '(thresholds, H, W) and (annotators, H, W)'
        )
    compiled = choose_solver(solver)
    if compiled is not None:
        yield from _match_compiled(compiled, maps, annotations, radius)
        return
    size = shape[0] * shape[1]
    pairs = _Pairs(annotations, radius, np.asarray(maps.any(0)))
    annotator = np.flatnonzero(annotations) // size
    partners = np.full(len(annotator), -1)  # flat index of the predicted pixel, -1 for none
    before = np.zeros(size, bool)
    for now in maps.reshape(-1, size):
        _update(partners, pairs, len(annotations), before, now, radius)
        before = now
        matched = partners >= 0
        right = np.zeros(size, bool)
        right[partners[matched]] = True
        yield np.bincount(annotator[matched], minlength=len(annotations)), right.reshape(shape)


def _match_compiled(
    compiled: ModuleType, maps: np.ndarray, annotations: np.ndarray, radius: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    height, width = maps.shape[1:]
    y, x, distances = _disc(radius, height, width)
    outlier = round(OUTLIER_COST * radius * UNIT)
    # Of int64, which holds sums of three weights.
    if outlier * (height * width + 2) >= 2**61:
        raise ValueError(f'radius={radius:g} is too large for maps of {height}x{width} pixels')
    found = np.zeros((len(maps), len(annotations)), np.int64)
    right = np.zeros(maps.shape, bool)
    # Arrays of one kind, so that Numba compiles once.
    maps, annotations = (np.require(each, bool, ('C', 'W')) for each in (maps, annotations))
    compiled.match_maps(maps, annotations, np.stack([y, x], 1), distances, outlier, found, right)
    yield from zip(found, right)


def _disc(radius: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps (y, x) to all pixels within a radius, and their lengths in units.

    Raises:
        ValueError: If the radius is not a positive number.
    """
    if not 0 < radius < np.inf:
        raise ValueError(f'radius={radius} must be a positive number of pixels')
    # further than the image is wide there is nothing
    down, right = min(int(radius), height - 1), min(int(radius), width - 1)
    y, x = np.mgrid[-down : down + 1, -right : right + 1]
    squared = x * x + y * y
    near = squared <= radius * radius
    return y[near], x[near], np.rint(np.sqrt(squared[near]) * UNIT).astype(np.int64)


class _Pairs:
    """Annotated pixels and the pixels within the radius of them, sorted by the latter.

    Of each pair: ``pixel``, its flat index; ``truth``, the number of the annotated pixel among those
    of all annotations; ``vertex``, the pixel once for each annotation; ``distance``, in units. Those of
    a pixel begin at ``first[pixel]``. Only pixels that are ``wanted``.
    """

    def __init__(self, annotations: np.ndarray, radius: float, wanted: np.ndarray):
        height, width = annotations.shape[1:]
        y, x, distances = _disc(radius, height, width)
        places = np.nonzero(annotations)
        parts = []
        # some annotated pixels at a time: of large images and radii all would not fit
        step = max(1, 2_000_000 // len(distances))
        for start in range(0, max(len(places[0]), 1), step):
            annotator, ys, xs = (axis[start : start + step, None] for axis in places)
            ys, xs = ys + y, xs + x
            inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
            inside[inside] = wanted[ys[inside], xs[inside]]
            truth, offset = np.nonzero(inside)
            pixel = (ys * width + xs)[inside]
            vertex = pixel * len(annotations) + annotator[truth, 0]
            parts.append(((truth + start).astype(np.int32), vertex, distances[offset]))
        truth, vertex, distance = map(np.concatenate, zip(*parts))
        order = np.argsort(vertex, kind='stable')
        self.truth, self.vertex, self.distance = truth[order], vertex[order], distance[order]
        self.pixel = self.vertex // len(annotations)
        self.first = np.searchsorted(self.pixel, np.arange(height * width + 1))


def _update(
    partners: np.ndarray,
    pairs: _Pairs,
    annotators: int,
    before: np.ndarray,
    now: np.ndarray,
    radius: float,
) -> None:
    """Bring the partners from the map before to the one now."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    lost = (partners >= 0) & ~now[partners]
    partners[lost] = -1
    new = now & ~before
    pixels = np.flatnonzero(now)
    amounts = pairs.first[pixels + 1] - pairs.first[pixels]
    edges = int(amounts.sum())
    if not (lost.any() or new.any()) or not edges:
        return
    ends = amounts.cumsum()
    active = np.repeat(pairs.first[pixels] - ends + amounts, amounts) + np.arange(edges)
    truth, vertex = pairs.truth[active], pairs.vertex[active]
    # Vertices of the graph: predicted pixels, once for each annotation, and then the annotated ones.
    begins = np.flatnonzero(np.diff(vertex, prepend=-1))
    predicted = vertex[begins] // annotators
    number = len(predicted)
    total = number + len(partners)
    rows = np.full(total + 1, edges, np.int32)
    rows[:number] = begins
    graph = csr_array((np.ones(edges), truth + np.int32(number), rows), shape=(total, total))
    amount, component = connected_components(graph, directed=False)
    of_predicted, of_truth = component[:number], component[number:]
    stale = np.zeros(amount, bool)
    stale[of_truth[lost]] = True
    stale[of_predicted[new[predicted]]] = True

    kept = stale[of_truth[truth]]
    if not kept.any():
        return
    partners[stale[of_truth]] = -1
    # the place of each edge's pixel in reading order, and its vertex
    order = np.repeat(np.arange(len(pixels)), amounts)
    column = np.repeat(np.arange(number), np.diff(begins, append=edges))
    costs = _costs(pairs.distance[active[kept]], order[kept], radius)
    theirs, ours = _solve(column[kept], truth[kept], *costs, component, number)
    partners[ours] = predicted[theirs]


def _costs(distance: np.ndarray, order: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """What each pair costs, and what it costs to leave one unmatched; whole numbers, in float64.

    Below the distance counts the place of the predicted pixel in reading order: between two matchings
    with as many pairs, each path along which they differ takes one predicted pixel for another.

    Raises:
        ValueError: If float64 does not hold such costs exactly.
    """
    places = float(order.max(initial=0) + 2)
    outlier = round(OUTLIER_COST * radius * UNIT)
    if outlier * places >= 2**51:
        raise ValueError(
            f'radius={radius:g} with {places:.0f} predicted pixels in reach of annotated ones: too '
            'many to be matched exactly; lower max_dist, or scale the maps down'
        )
    # An outlier costs as much as the last pixel, so that of equally good matchings the larger wins.
    return distance * places + order + 1, outlier * places + places


def _solve(
    predicted: np.ndarray,
    truth: np.ndarray,
    cost: np.ndarray,
    outlier_cost: float,
    component: np.ndarray,
    number: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve some components: a block matrix with some of them in each block.

    Args:
        predicted (np.ndarray): Of each edge, the number of the predicted pixel.
        truth (np.ndarray): That of the annotated pixel.
        cost (np.ndarray): What it costs to match them.
        outlier_cost (float): What it costs to leave a pair unmatched.
        component (np.ndarray): The component of each vertex, predicted pixels before annotated ones.
        number (int): How many predicted pixels there are.

    Returns:
        tuple[np.ndarray, np.ndarray]: The numbers of matched pixels, predicted and annotated, in pairs.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    ends = np.stack([predicted, number + truth])
    alive = np.zeros(len(component), bool)
    alive[ends] = True
    vertices = np.flatnonzero(alive)
    owner = component[vertices]
    sizes = np.bincount(2 * owner + (vertices >= number), minlength=2 * owner.max() + 2)
    sizes = sizes.reshape(-1, 2)
    # The smaller side are the rows: the fewer find no partner, the less is searched in vain.
    row_side, rows = sizes.argmin(1), sizes.min(1)
    largest_first = np.argsort(-rows, kind='stable')
    block = np.empty(len(rows), int)
    block[largest_first] = (rows[largest_first].cumsum() - rows[largest_first]) // ROWS
    block = np.unique(block[owner], return_inverse=True)[1]

    is_row = (vertices >= number) == row_side[owner]
    place = np.empty(len(component), int)
    sides, starts = [], []
    for side in (is_row, ~is_row):
        index = np.flatnonzero(side)
        index = index[np.argsort(block[index], kind='stable')]
        place[vertices[index]] = np.arange(len(index))
        sides.append(vertices[index])
        starts.append(np.searchsorted(block[index], np.arange(block.max() + 2)))
    row, column = place[np.where(row_side[component[predicted]], ends[::-1], ends)]
    # Before the columns of a block comes an outlier for each row of it: SciPy asks first whether all
    # rows can be matched, and the first column of each answers that.
    every = np.arange(len(sides[0]))
    block_of = np.searchsorted(starts[0], every, side='right') - 1
    column = column + starts[0][block_of[row] + 1]
    outlier = every + starts[1][block_of]
    graph = csr_array(
        (
            np.append(cost, np.full(len(every), outlier_cost)),
            (np.append(row, every), np.append(column, outlier)),
        ),
        shape=(len(every), len(sides[0]) + len(sides[1])),
    )
    chosen = np.empty(len(every), int)
    for k, (first, last) in enumerate(pairwise(starts[0].tolist())):
        left, right = int(starts[1][k]) + first, int(starts[1][k + 1]) + last
        inside = slice(int(graph.indptr[first]), int(graph.indptr[last]))
        part = csr_array(
            (
                graph.data[inside],
                graph.indices[inside] - left,
                graph.indptr[first : last + 1] - inside.start,
            ),
            shape=(last - first, right - left),
        )
        chosen[first:last] = min_weight_full_bipartite_matching(part)[1] + left
    column = chosen - starts[0][block_of + 1]
    matched = column >= starts[1][block_of]
    pairs = np.sort([sides[0][matched], sides[1][column[matched]]], axis=0)
    return pairs[0], pairs[1] - number
