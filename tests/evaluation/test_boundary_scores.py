"""The boundary benchmark: the official run, matchings against brute force, thinning, hand-worked cases."""

from __future__ import annotations

import itertools
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from conftest import shared
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip('scipy')

from mmdla.evaluation.boundary import solvers
from mmdla.evaluation.boundary.matching import OUTLIER_COST, match_boundaries, match_thresholds
from mmdla.evaluation.boundary.nms import edge_nms
from mmdla.evaluation.boundary.scores import (
    BoundaryScores,
    average_precision,
    best_point,
    count_boundaries,
    precision_recall,
    recall_at_half,
    threshold_values,
)
from mmdla.evaluation.boundary.thinning import thin_at_thresholds
from mmdla.io.boundary_files import read_annotations, read_boundary_map

NUMBA = pytest.param(
    'numba', marks=pytest.mark.skipif(not find_spec('numba'), reason='needs Numba, the extra `scoring`')
)
both_solvers = pytest.mark.parametrize('solver', ['scipy', NUMBA])
quick = settings(max_examples=60, deadline=None, derandomize=True)


def image(*rows: str) -> np.ndarray:
    return np.array([[c == '#' for c in row] for row in rows])


def line(column: int, size: int = 40) -> np.ndarray:
    """An upright line."""
    drawn = np.zeros((size, size), bool)
    drawn[5:35, column] = True
    return drawn


# -- the official run -----------------------------------------------------------------------------


@both_solvers
def test_official_benchmark(solver):
    folder = shared('golden/bsds_bench')
    names = sorted(path.stem for path in (folder / 'png').glob('*.png'))
    scores = BoundaryScores.of(
        {
            name: count_boundaries(
                read_boundary_map(folder / f'png/{name}.png'),
                read_annotations(folder / f'groundTruth/{name}.mat'),
                thresholds=5,
                solver=solver,
            )
            for name in names
        }
    )
    wanted = np.loadtxt(folder / 'expected/eval_bdry.txt')
    s = scores.summary()
    found = [s[k] for k in ('threshold', 'recall', 'precision', 'ODS', 'OIS_recall', 'OIS_precision')]
    np.testing.assert_allclose([s['ODS'], s['OIS'], s['AP']], wanted[[3, 6, 7]], atol=5e-4)
    np.testing.assert_allclose(found, wanted[:6], atol=1e-3)
    curve = np.loadtxt(folder / 'expected/eval_bdry_thr.txt')
    np.testing.assert_allclose(scores.curve(), curve, atol=1e-3)
    images = np.loadtxt(folder / 'expected/eval_bdry_img.txt')[:, 1:]
    np.testing.assert_allclose(scores.images()[:, [0, 3]], images[:, [0, 3]], atol=1e-3)


# -- matching -------------------------------------------------------------------------------------


def brute_force(prediction: np.ndarray, truth: np.ndarray, radius: float):
    """All matchings tried: the least cost, the most pairs at that cost, then the first predicted pixels."""
    p, g = np.argwhere(prediction), np.argwhere(truth)
    distance = np.hypot(*(p[:, None] - g[None]).transpose(2, 0, 1)).reshape(len(p), len(g))
    best = (0.0, 0, ())

    def place(k: int, free: tuple[int, ...], cost: float, used: tuple[int, ...]):
        nonlocal best
        if k == len(p):
            found = (round(cost, 6), -len(used), used)
            best = min(best, found)
            return
        place(k + 1, free, cost, used)
        for j in free:
            if distance[k, j] <= radius:
                rest = tuple(x for x in free if x != j)
                place(k + 1, rest, cost + distance[k, j] - OUTLIER_COST * radius, (*used, k))

    place(0, tuple(range(len(g))), 0.0, ())
    return best


@quick
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=6, unique=True),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=6, unique=True),
    st.sampled_from([0.5, 1.0, 1.5, 2.3, 4.3]),
)
def test_matching_is_the_brute_force_optimum(predicted, annotated, radius):
    prediction, truth = np.zeros((2, 5, 6), bool)
    for (y, x), drawn in [(c, prediction) for c in predicted] + [(c, truth) for c in annotated]:
        drawn[y, x] = True
    cost, pairs, used = brute_force(prediction, truth, radius)
    right, found = match_boundaries(prediction, truth, radius)
    assert right.sum() == found.sum() == -pairs
    assert not (right & ~prediction).any()
    assert not (found & ~truth).any()
    assert tuple(np.flatnonzero(right[prediction])) == used
    # The pixels found and right can be paired at that cost.
    p, g = np.argwhere(right), np.argwhere(found)
    costs = [
        sum(np.hypot(*(a - b)) if np.hypot(*(a - b)) <= radius else np.inf for a, b in zip(p, order))
        for order in itertools.permutations(g)
    ]
    assert min(costs) + pairs * OUTLIER_COST * radius == pytest.approx(cost, abs=1e-4)


POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=6, unique=True)


@both_solvers
@quick
@given(st.lists(POINTS, min_size=1, max_size=4), POINTS, st.sampled_from([0.5, 1.0, 1.5, 2.3, 4.3]))
def test_thresholds_are_the_brute_force_optimum(solver, predicted, annotated, radius):
    maps, truth = np.zeros((len(predicted), 5, 6), bool), np.zeros((5, 6), bool)
    for drawn, points in [*zip(maps, predicted), (truth, annotated)]:
        drawn[tuple(np.array(points, int).reshape(-1, 2).T)] = True
    for drawn, (counts, right) in zip(maps, match_thresholds(maps, truth[None], radius, solver)):
        _, pairs, used = brute_force(drawn, truth, radius)
        assert counts.tolist() == [-pairs]
        assert tuple(np.flatnonzero(right[drawn])) == used
        assert right.sum() == len(used)


@both_solvers
@quick
@given(st.integers(0, 2**31), st.floats(0, 0.6), st.floats(0, 0.4), st.sampled_from([1.0, 1.5, 3.1]))
def test_thresholds_count_as_one_by_one(solver, seed, predicted, annotated, radius):
    rng = np.random.default_rng(seed)
    maps = rng.random((6, 14, 15)) < predicted
    annotations = rng.random((3, 14, 15)) < annotated
    # maps that neither grow nor shrink, and maps that only shrink, as of a map that needs no thinning
    for sequence in (maps, np.logical_or.accumulate(maps[::-1])[::-1]):
        for values, (counts, right) in zip(
            sequence, match_thresholds(sequence, annotations, radius, solver)
        ):
            one_by_one = [match_boundaries(values, truth, radius) for truth in annotations]
            assert counts.tolist() == [int(found.sum()) for _, found in one_by_one]
            np.testing.assert_array_equal(right, np.any([r for r, _ in one_by_one], axis=0))


@both_solvers
def test_real_maps_count_as_one_by_one(solver):
    folder = shared('golden/bsds_bench')
    probability = read_boundary_map(folder / 'png/3063.png')
    annotations = read_annotations(folder / 'groundTruth/3063.mat')
    maps = thin_at_thresholds(probability, threshold_values(99))[::12]
    for values, (counts, right) in zip(maps, match_thresholds(maps, annotations, 4.3, solver)):
        one_by_one = [match_boundaries(values, truth, 4.3) for truth in annotations]
        assert counts.tolist() == [int(found.sum()) for _, found in one_by_one]
        np.testing.assert_array_equal(right, np.any([r for r, _ in one_by_one], axis=0))


@pytest.mark.parametrize('nms', [False, True], ids=['thick', 'thin'])
def test_both_solvers_count_the_same_of_real_maps(nms):
    pytest.importorskip('numba')
    folder = shared('data/BSDS500')
    image = cv2.imread(str(folder / 'images/test/35028.jpg'), cv2.IMREAD_GRAYSCALE)
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 2)
    steepness = np.hypot(cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1))
    probability = np.sqrt(steepness / steepness.max())
    annotations = read_annotations(folder / 'groundTruth/test/35028.mat')
    counts = [
        count_boundaries(probability, annotations, thresholds=24, nms=nms, solver=solver)
        for solver in ('scipy', 'numba')
    ]
    assert counts[0][:, 0].max() > 10000
    np.testing.assert_array_equal(*counts)


@both_solvers
def test_arrays_of_any_layout(solver):
    rng = np.random.default_rng(1)
    maps, annotations = rng.random((3, 20, 24)) < 0.2, rng.random((2, 20, 24)) < 0.1
    wanted = [counts.tolist() for counts, _ in match_thresholds(maps, annotations, 2.5, solver)]
    assert sum(map(sum, wanted)) > 0
    maps, annotations = np.asfortranarray(maps), annotations.astype(np.uint8)
    annotations.flags.writeable = False
    found = match_thresholds(maps, annotations, 2.5, solver)
    assert [counts.tolist() for counts, _ in found] == wanted
    for empty in (maps[:0], maps & False):
        assert [c.sum() for c, _ in match_thresholds(empty, annotations, 2.5, solver)] == [0] * len(
            empty
        )
    assert [c.shape for c, _ in match_thresholds(maps, annotations[:0], 2.5, solver)] == [(0,)] * 3


def test_solver_without_numba(monkeypatch):
    assert solvers.solver_name('scipy') == 'scipy'
    with pytest.raises(ValueError, match="solver='fast' must be one of numba, scipy"):
        count_boundaries(line(3), line(3)[None], solver='fast')
    solvers._load.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(solvers.importlib.util, 'find_spec', lambda name: None)
        assert solvers.solver_name() == 'scipy'
        with pytest.raises(ImportError, match=r'Numba is not installed: pip install .mmdla\[scoring\]'):
            solvers.solver_name('numba')
    solvers._load.cache_clear()
    # A Numba that a newer NumPy broke: SciPy is used, and the user is told why.
    with monkeypatch.context() as patch:
        patch.setattr(solvers.importlib.util, 'find_spec', lambda name: True)
        patch.delitem(sys.modules, 'mmdla.evaluation.boundary.compiled', raising=False)
        patch.delattr('mmdla.evaluation.boundary.compiled', raising=False)
        patch.setitem(sys.modules, 'numba', None)
        with pytest.warns(UserWarning, match='Numba is installed, but cannot be used .*SciPy'):
            assert solvers.solver_name() == 'scipy'
    solvers._load.cache_clear()


def test_most_pairs_before_short_ones():
    # nearest first would leave one of each without a partner
    right, found = match_boundaries(image('.##.'), image('#.#.'), 1.0)
    assert right.sum() == found.sum() == 2


def test_pairs_that_move_many_others_too_far_are_not_made():
    # One more pair would shift each of 500 by a pixel, for 500 pixels of distance; it is worth 100.
    prediction, truth = np.zeros((2, 1, 502), bool)
    prediction[0, 1:], truth[0, :-1] = True, True
    right, found = match_boundaries(prediction, truth, 1.0)
    assert right.sum() == found.sum() == 500
    # of 60 it is made
    right, found = match_boundaries(prediction[:, :61], np.roll(prediction[:, :61], -1), 1.0)
    assert right.sum() == found.sum() == 60


def test_equal_matchings_take_the_first_in_reading_order():
    prediction = image('#.#', '...', '#.#')
    right, _ = match_boundaries(prediction, image('...', '.#.', '...'), 1.5)
    np.testing.assert_array_equal(np.argwhere(right), [[0, 0]])


@pytest.mark.parametrize('radius', [0, -1, float('nan')])
def test_matching_refuses(radius):
    with pytest.raises(ValueError, match='radius'):
        match_boundaries(line(3), line(3), radius)
    with pytest.raises(ValueError, match='one size'):
        match_boundaries(line(3), line(3)[:-1], 2)
    with pytest.raises(ValueError, match='annotators, H, W'):
        list(match_thresholds(line(3)[None], line(3), 2))
    with pytest.raises(ValueError, match='too many'):
        match_boundaries(line(3), line(3), 1e6)


@both_solvers
def test_matching_of_thresholds_refuses(solver):
    for radius in (0, -1, float('nan'), float('inf')):
        with pytest.raises(ValueError, match='radius'):
            list(match_thresholds(line(3)[None], line(3)[None], radius, solver))
    with pytest.raises(ValueError, match=r'too (many|large)'):
        list(match_thresholds(line(3)[None], line(3)[None], 1e9, solver))


# -- thinning -------------------------------------------------------------------------------------


@both_solvers
@quick
@given(values=arrays(np.uint8, (12, 17), elements=st.integers(0, 4), fill=st.nothing()))
def test_thinning_is_scikit_images(solver, values):
    skimage = pytest.importorskip('skimage.morphology')
    thresholds = np.arange(1, 5)
    for found, t in zip(thin_at_thresholds(values, thresholds, solver), thresholds):
        np.testing.assert_array_equal(found, skimage.thin(values >= t))


@both_solvers
def test_thinning_of_large_shapes_and_many_thresholds(solver):
    skimage = pytest.importorskip('skimage.morphology')
    values = np.zeros((61, 90))
    values[3:40, 5:60] = np.linspace(0, 1, 55)
    values[30:58, 40:] += np.linspace(0.2, 0.9, 28)[:, None]
    thresholds = threshold_values(150)
    thinned = thin_at_thresholds(values, thresholds, solver)
    assert thinned.shape == (150, 61, 90)
    for k in range(0, 150, 7):
        np.testing.assert_array_equal(thinned[k], skimage.thin(values >= thresholds[k]))


def test_thinning_refuses_falling_thresholds():
    with pytest.raises(ValueError, match='must rise'):
        thin_at_thresholds(np.zeros((3, 3)), [0.5, 0.2])


# -- non-maximum suppression ----------------------------------------------------------------------


@pytest.mark.parametrize('degree', [0, 20, 45, 70, 90, 135])
def test_nms_thins_to_the_ridge(degree):
    y, x = np.mgrid[:81, :81] - 40.0
    a = np.deg2rad(degree)
    offset = x * np.cos(a) + y * np.sin(a)
    ridge = np.exp(-((offset / 3) ** 2))
    kept = edge_nms(ridge, border=0, smooth=0)
    inner = (slice(10, -10),) * 2
    assert (np.abs(offset[inner][kept[inner] > 0.05]) < 1).all()
    # the whole length of the ridge
    assert (kept[inner] > 0.9).sum() >= 61
    values = kept[kept > 0]
    np.testing.assert_array_equal(values, ridge[kept > 0])


def test_nms_fades_at_the_border_and_refuses():
    ridge = np.zeros((20, 20))
    ridge[:, 10] = 1
    column = edge_nms(ridge)[:, 10]
    np.testing.assert_allclose(column[:6] / column[10], np.arange(6) / 5)
    for name, value in (('radius', 0), ('border', -1), ('smooth', 0.5), ('multiplier', 0)):
        with pytest.raises(ValueError, match=name):
            edge_nms(ridge, **{name: value})


# -- counts by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(('shift', 'right'), [(0, 30), (2, 30), (3, 0)])
def test_shifted_line(shift, right):
    # 0.05 of the diagonal of 56.6 pixels: 2.83
    counts = count_boundaries(line(20 + shift), line(20)[None], thresholds=3, max_dist=0.05)
    np.testing.assert_array_equal(counts, [[right, 30, right, 30]] * 3)


def test_annotators_that_disagree():
    # Each marked another line; both were predicted: half of what is marked is found by each prediction.
    annotations = np.stack([line(10), line(30)])
    counts = count_boundaries(line(10) | line(30), annotations, thresholds=1)
    np.testing.assert_array_equal(counts, [[60, 60, 60, 60]])
    counts = count_boundaries(line(10), annotations, thresholds=1)
    np.testing.assert_array_equal(counts, [[30, 60, 30, 30]])
    # One that both marked counts once for precision and twice for recall.
    counts = count_boundaries(line(10), np.stack([line(10), line(11)]), thresholds=1, max_dist=0.05)
    np.testing.assert_array_equal(counts, [[60, 60, 30, 30]])


def test_empty_prediction_and_empty_truth():
    nothing = np.zeros((40, 40), bool)
    counts = count_boundaries(nothing, line(20)[None], thresholds=2)
    np.testing.assert_array_equal(counts, [[0, 30, 0, 0]] * 2)
    summary = BoundaryScores.of({'a': counts}).summary()
    assert summary['ODS'] == summary['OIS'] == summary['AP'] == summary['R50'] == 0
    counts = count_boundaries(line(20), np.stack([nothing, nothing]), thresholds=2)
    np.testing.assert_array_equal(counts, [[0, 0, 0, 30]] * 2)
    assert BoundaryScores.of({'a': counts}).summary()['ODS'] == 0


def test_order_of_annotators_does_not_matter():
    rng = np.random.default_rng(0)
    probability = rng.random((30, 34)).round(2)
    annotations = rng.random((4, 30, 34)) < 0.1
    wanted = count_boundaries(probability, annotations, thresholds=9, max_dist=0.05)
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        found = count_boundaries(probability, annotations[order], thresholds=9, max_dist=0.05)
        np.testing.assert_array_equal(found, wanted)


def test_thick_maps_are_thinned_or_not():
    thick = line(19) | line(20) | line(21)
    assert count_boundaries(thick, line(20)[None], thresholds=1)[0, 3] < 40
    assert count_boundaries(thick, line(20)[None], thresholds=1, thin=False)[0, 3] == 90


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(thresholds=0), 'thresholds=0'),
        (dict(thresholds=2.5), 'thresholds=2.5'),
        (dict(max_dist=0), 'max_dist=0'),
        (dict(annotations=np.zeros((1, 40, 39), bool)), r'\(40, 40\).*\(1, 40, 39\)'),
        (dict(annotations=np.zeros((40, 40), bool)), 'annotators'),
    ],
)
def test_counting_refuses(change, message):
    arguments = dict(probability=line(20), annotations=line(20)[None]) | change
    with pytest.raises(ValueError, match=message):
        count_boundaries(**arguments)


# -- scores of counts -----------------------------------------------------------------------------


def test_scores_by_hand():
    # Two images, two thresholds: found, annotated, right, predicted.
    counts = dict(
        b=np.array([[8, 10, 6, 12], [2, 10, 2, 2]]),
        a=np.array([[5, 10, 5, 10], [5, 10, 4, 4]]),
    )
    scores = BoundaryScores.of(counts)
    assert scores.names == ('a', 'b')
    curve = scores.curve()
    np.testing.assert_allclose(curve[:, 0], [1 / 3, 2 / 3])
    np.testing.assert_allclose(curve[:, 1], [13 / 20, 7 / 20])
    np.testing.assert_allclose(curve[:, 2], [11 / 22, 6 / 6])
    summary = scores.summary()
    # between the thresholds, at share s: recall 0.65 - 0.3 s, precision 0.5 + 0.5 s
    s = np.linspace(0, 1, 100)
    f = 2 * (0.65 - 0.3 * s) * (0.5 + 0.5 * s) / (1.15 + 0.2 * s)
    assert summary['ODS'] == pytest.approx(f.max())
    assert summary['threshold'] == pytest.approx(1 / 3 + s[f.argmax()] / 3)
    # a is best at the second threshold (F 2/3 over 1/2), b at the first (0.615 over 1/3)
    recall, precision = 13 / 20, 10 / 16
    assert summary['OIS'] == pytest.approx(2 * recall * precision / (recall + precision))
    # 0.35 to 0.65 in steps of 0.01, precision falling from 1 to 0.5
    assert summary['AP'] == pytest.approx(np.linspace(1, 0.5, 31).sum() * 0.01)
    assert summary['R50'] == pytest.approx(0.65)
    np.testing.assert_allclose(scores.images()[0, 3], precision_recall(counts['a'])[2].max(), atol=0.02)


def test_area_and_recall_at_half():
    assert average_precision(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(1.01)
    assert average_precision(np.array([0.5, 0.0]), np.array([1.0, 1.0])) == pytest.approx(0.51)
    recall = np.array([0.9, 0.6, 0.2])
    assert recall_at_half(recall, np.array([0.4, 0.6, 0.9])) == pytest.approx(0.75)
    assert recall_at_half(recall, np.array([0.6, 0.7, 0.9])) == pytest.approx(0.9)
    assert recall_at_half(recall, np.array([0.1, 0.2, 0.3])) == 0
    assert best_point(np.array([0.5]), np.array([0.4]), np.array([0.4]))[3] == pytest.approx(0.4)


def test_thresholds_are_the_official_ones():
    np.testing.assert_allclose(threshold_values(99), np.arange(1, 100) / 100)
    # 85 of 255 is a third, which is below the second of five thresholds as the official code rounds it
    assert (threshold_values(5) <= 85 / 255).sum() == 1


def test_no_image():
    with pytest.raises(ValueError, match='no image'):
        BoundaryScores.of({})
