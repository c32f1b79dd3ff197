r"""Matching and thinning compiled by Numba: the results of SciPy and NumPy, many times faster.

The matching of :mod:`mmdla.evaluation.boundary.matching` is the one of the largest weight, where a
pair weighs what it saves, :math:`w_{pg} = K - c_{pg}`: the cost of leaving it unmatched less its own.
Its dual has a price :math:`y \ge 0` for each pixel, with :math:`y_p + y_g \ge w_{pg}` for each pair. A
matching is the best if each of its pairs has :math:`y_p + y_g = w_{pg}` and each unmatched pixel has a
price of 0.

Matching and prices are kept from one threshold to the next. Where a pixel joins or leaves, an unmatched
one may have a price. A shortest path from there, over unmatched and matched pairs in turn and with
:math:`y_p + y_g - w_{pg}` as length, shows how the matching must change to be the best again. The
search ends as soon as no shorter path can follow, mostly after a few pixels.

Source: Kuhn, The Hungarian Method for the Assignment Problem, 1955, with Dijkstra's search as in Jonker
and Volgenant, 1987. Costs are int64, so that they are exact.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def match_maps(
    maps: np.ndarray,
    annotations: np.ndarray,
    offsets: np.ndarray,
    distances: np.ndarray,
    outlier: int,
    found: np.ndarray,
    right: np.ndarray,
) -> None:
    """Match binary maps to annotations; in any order, but similar maps should be neighbours.

    Args:
        maps (np.ndarray): Booleans of shape (thresholds, H, W).
        annotations (np.ndarray): Booleans of shape (annotators, H, W).
        offsets (np.ndarray): Steps to the pixels within the radius, int64 of shape (n, 2), (y, x).
        distances (np.ndarray): Their lengths, int64 of shape (n,).
        outlier (int): What leaving a pair unmatched costs, in the same unit.
        found (np.ndarray): Is filled with how many pixels of each annotation each map matches; int64 of
            shape (thresholds, annotators).
        right (np.ndarray): False everywhere; is set where some annotation's matching uses a pixel.
            Booleans of shape (thresholds, H, W).
    """
    height, width = maps.shape[1:]
    # The pixels that any map has, in reading order, and at each pixel its number and 1 more.
    number = np.zeros((height, width), np.int32)
    pixels = np.empty((height * width, 2), np.int32)
    amount = 0
    for y in range(height):
        for x in range(width):
            for one in range(len(maps)):
                if maps[one, y, x]:
                    pixels[amount] = y, x
                    amount += 1
                    number[y, x] = amount
                    break
    pixels = pixels[:amount]
    switched, until = _switched(maps, pixels)
    for annotator in range(len(annotations)):
        graph = _graph(annotations[annotator], number, amount, offsets, distances, outlier)
        _match(switched, until, pixels, graph, found[:, annotator], right)


@njit(cache=True, nogil=True)
def _switched(maps: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels in which maps differ, from the last map to the first, and where those of each end."""
    size = 0
    switched, until = np.empty(len(pixels), np.int32), np.empty(len(maps), np.int64)
    for one in range(len(maps) - 1, -1, -1):
        if size + len(pixels) > len(switched):
            longer = np.empty(2 * len(switched) + len(pixels), np.int32)
            longer[:size] = switched[:size]
            switched = longer
        for p in range(len(pixels)):
            y, x = pixels[p]
            if maps[one, y, x] != (one + 1 < len(maps) and maps[one + 1, y, x]):
                switched[size] = p
                size += 1
        until[one] = size
    return switched, until


@njit(cache=True, nogil=True)
def _graph(
    truth: np.ndarray,
    number: np.ndarray,
    amount: int,
    offsets: np.ndarray,
    distances: np.ndarray,
    outlier: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of one annotation, from both sides: those of vertex v are first[v] to first[v + 1].

    Vertices are the predicted pixels and after them the annotated ones. Returns ``first``, the other
    vertex of each pair, and its weight.
    """
    height, width = truth.shape
    first = np.zeros(amount + truth.sum() + 2, np.int64)
    # In the first round the pairs of each vertex are counted, in the second they are entered.
    others, weights = np.empty(0, np.int32), np.empty(0, np.int64)
    for entering in (False, True):
        if entering:
            for v in range(2, len(first)):
                first[v] += first[v - 1]
            others, weights = np.empty(first[-1], np.int32), np.empty(first[-1], np.int64)
        g = amount - 1
        for y in range(height):
            for x in range(width):
                if not truth[y, x]:
                    continue
                g += 1
                for k in range(len(offsets)):
                    at_y, at_x = y + offsets[k, 0], x + offsets[k, 1]
                    if not (0 <= at_y < height and 0 <= at_x < width and number[at_y, at_x]):
                        continue
                    p = number[at_y, at_x] - 1
                    if entering:
                        # As in `matching._costs`: below the distance counts the place in reading order.
                        weight = (outlier - distances[k]) * (amount + 2) + amount + 1 - p
                        others[first[p + 1]], weights[first[p + 1]] = g, weight
                        others[first[g + 1]], weights[first[g + 1]] = p, weight
                        first[p + 1] += 1
                        first[g + 1] += 1
                    else:
                        first[p + 2] += 1
                        first[g + 2] += 1
    return first[:-1], others, weights


@njit(cache=True, nogil=True)
def _match(
    switched: np.ndarray,
    until: np.ndarray,
    pixels: np.ndarray,
    graph: tuple[np.ndarray, np.ndarray, np.ndarray],
    found: np.ndarray,
    right: np.ndarray,
) -> None:
    """Match all maps, by `_switched`, to one annotation, by `_graph`."""
    first, others, weights = graph
    amount, vertices = len(pixels), len(first) - 1
    prices, partner = np.zeros(vertices, np.int64), np.full(vertices, -1, np.int32)
    active = np.ones(vertices, np.bool_)  # whether the map has the pixel; the annotation has all of its
    active[:amount] = False
    # Of the search, made once: what belongs to an earlier one is known by its number.
    length, parent = np.empty(vertices, np.int64), np.empty(vertices, np.int32)
    seen, visited = np.zeros(vertices, np.int64), np.empty(vertices, np.int32)
    keys, items = np.empty(len(others) // 2 + 1, np.int64), np.empty(len(others) // 2 + 1, np.int32)
    changed = np.empty(vertices, np.int32)
    searches, pairs = 0, 0
    # From the highest threshold on pixels join: one that leaves frees a partner, who has to search.
    start = 0
    for one in range(len(until) - 1, -1, -1):
        changes = 0
        for k in range(start, until[one]):
            p = root = switched[k]
            active[p] = not active[p]
            if not active[p]:
                prices[p] = 0
                root = partner[p]
                if root < 0:
                    continue
                partner[p] = partner[root] = -1
                pairs -= 1
            changed[changes] = root
            changes += 1
        start = until[one]
        for k in range(changes):
            p = changed[k]
            if p < amount:
                for e in range(first[p], first[p + 1]):
                    prices[p] = max(prices[p], weights[e] - prices[others[e]])
        for k in range(changes):
            root = changed[k]
            if partner[root] < 0 and prices[root] > 0:
                searches += 1
                pairs += _search(
                    root, first, others, weights, prices, partner, active,
                    length, parent, seen, visited, searches, keys, items,
                )  # fmt: skip
        found[one] = pairs
        for g in range(amount, vertices):
            if partner[g] >= 0:
                y, x = pixels[partner[g]]
                right[one, y, x] = True


@njit(cache=True, nogil=True)
def _search(
    root: int,
    first: np.ndarray,
    others: np.ndarray,
    weights: np.ndarray,
    prices: np.ndarray,
    partner: np.ndarray,
    active: np.ndarray,
    length: np.ndarray,
    parent: np.ndarray,
    seen: np.ndarray,
    visited: np.ndarray,
    search: int,
    keys: np.ndarray,
    items: np.ndarray,
) -> int:
    """Follow the shortest path from an unmatched pixel with a price. Returns how many pairs it adds.

    It ends at an unmatched pixel of the other side, or at one of its own side that becomes unmatched
    when its price is paid.
    """
    best, end, grows = prices[root], root, 0
    visits, waiting = 0, 0
    near, so_far = root, 0  # of the root's side, and how far away
    while True:
        for e in range(first[near], first[near + 1]):
            far = others[e]
            total = so_far + prices[near] + prices[far] - weights[e]
            if total >= best or not active[far] or (seen[far] == search and length[far] <= total):
                continue
            seen[far], length[far], parent[far] = search, total, near
            if partner[far] < 0:
                best, end, grows = total, far, 1
                continue
            place = waiting
            waiting += 1
            while place > 0 and keys[(place - 1) >> 1] > total:
                keys[place], items[place] = keys[(place - 1) >> 1], items[(place - 1) >> 1]
                place = (place - 1) >> 1
            keys[place], items[place] = total, far
        # The nearest that waits, without those that have been reached on a shorter way since.
        far = -1
        while waiting > 0 and keys[0] < best and far < 0:
            if keys[0] == length[items[0]]:
                far, so_far = items[0], keys[0]
            waiting -= 1
            key, item = keys[waiting], items[waiting]
            place, below = 0, 1
            while below < waiting:
                if below + 1 < waiting and keys[below + 1] < keys[below]:
                    below += 1
                if keys[below] >= key:
                    break
                keys[place], items[place] = keys[below], items[below]
                place, below = below, 2 * below + 1
            keys[place], items[place] = key, item
        if far < 0:
            break
        visited[visits] = far
        visits += 1
        near = partner[far]
        if so_far + prices[near] < best:
            best, end, grows = so_far + prices[near], near, 0
    prices[root] -= best
    for k in range(visits):
        far = visited[k]
        prices[far] += best - length[far]
        prices[partner[far]] -= best - length[far]
    if end == root:
        return 0
    far = end
    if not grows:
        far = partner[end]
        partner[end] = -1
    while True:
        near = parent[far]
        free = partner[near]
        partner[near], partner[far] = far, near
        if near == root:
            return grows
        far = free


@njit(cache=True, nogil=True)
def thin_words(words: np.ndarray, offsets: np.ndarray) -> None:
    """Thin 64 binary images, a bit each, in place: as :func:`mmdla.evaluation.boundary.thinning._thin`.

    Args:
        words (np.ndarray): uint64 of shape (H, W), with a border of zeros.
        offsets (np.ndarray): Steps to the neighbours x1 ... x8 in the flat array, int64 of shape (8,).
    """
    flat = words.ravel()
    candidates, later = np.empty(len(flat), np.int64), np.empty(len(flat), np.int64)
    changed, before = np.empty(len(flat), np.int64), np.empty(len(flat), np.int64)
    gone = np.empty(len(flat), np.uint64)
    seen = np.zeros(len(flat), np.int32)
    amount = 0
    for pixel in range(len(flat)):
        if flat[pixel]:
            candidates[amount] = before[amount] = pixel
            amount += 1
    changes_before, half, step = amount, 0, 0
    while amount:
        changes = 0
        for k in range(amount):
            pixel = candidates[k]
            x1 = flat[pixel + offsets[half]]
            x2 = flat[pixel + offsets[half + 1]]
            x3 = flat[pixel + offsets[half + 2]]
            x4 = flat[pixel + offsets[half + 3]]
            x5 = flat[pixel + offsets[(half + 4) % 8]]
            x6 = flat[pixel + offsets[(half + 5) % 8]]
            x7 = flat[pixel + offsets[(half + 6) % 8]]
            x8 = flat[pixel + offsets[(half + 7) % 8]]
            a, b, c, d = ~x1 & (x2 | x3), ~x3 & (x4 | x5), ~x5 & (x6 | x7), ~x7 & (x8 | x1)
            crossing = ((a ^ b) & ~(c | d)) | ((c ^ d) & ~(a | b))
            a, b, c, d = x1 | x2, x3 | x4, x5 | x6, x7 | x8
            enough, full = (a & b) | (c & d) | ((a | b) & (c | d)), a & b & c & d
            a, b, c, d = x2 | x3, x4 | x5, x6 | x7, x8 | x1
            enough &= (a & b) | (c & d) | ((a | b) & (c | d))
            full &= a & b & c & d
            removed = flat[pixel] & crossing & enough & ~full & ~((x2 | x3 | ~x8) & x1)
            if removed:
                changed[changes], gone[changes] = pixel, removed
                changes += 1
        for k in range(changes):
            flat[changed[k]] &= ~gone[k]
        # A half-step looks anew at what has a neighbour that changed since it looked last.
        step += 1
        amount = 0
        for k in range(changes + changes_before):
            pixel = changed[k] if k < changes else before[k - changes]
            for n in range(-1, 8):
                place = pixel + (offsets[n] if n >= 0 else 0)
                if seen[place] != step and flat[place]:
                    seen[place] = step
                    later[amount] = place
                    amount += 1
        candidates, later = later, candidates
        changed, before, changes_before = before, changed, changes
        half = 4 - half
