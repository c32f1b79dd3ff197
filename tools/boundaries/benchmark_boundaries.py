"""How fast boundaries are scored: `benchmark_boundaries.py PRED_DIR GT_DIR`, as eval_boundaries.py.

Counts the same images in turn: every threshold and annotator by itself, in one call of SciPy's solver
(plain); and as the metric does it, with SciPy and with Numba, in one process and in several. Prints
seconds on the clock and of the processors, their ratios, and whether all counts are the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

if 'mmdla' not in sys.modules:
    # The package as a folder of modules: its __init__.py registers the networks.
    sys.modules['mmdla'] = importlib.util.module_from_spec(importlib.util.find_spec('mmdla'))

from mmdla.evaluation.boundary.command import progress
from mmdla.evaluation.boundary.matching import match_boundaries
from mmdla.evaluation.boundary.nms import edge_nms
from mmdla.evaluation.boundary.scores import (
    count_image,
    counting_pool,
    prepare_solver,
    threshold_values,
)
from mmdla.evaluation.boundary.solvers import solver_name
from mmdla.evaluation.boundary.thinning import thin_at_thresholds
from mmdla.io.boundary_files import (
    pair_boundary_files,
    read_annotations,
    read_boundary_map,
)

MAX_DIST = 0.0075


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', type=Path, metavar='PRED_DIR', help='folder of boundary maps')
    parser.add_argument('annotations', type=Path, metavar='GT_DIR', help='folder of annotations')
    parser.add_argument('--images', type=int, default=10, help='how many, spread over the folder (10)')
    parser.add_argument('--thresholds', type=int, default=99, help='how many (99)')
    parser.add_argument('--nms', action='store_true', help='suppress non-maxima of the maps first')
    parser.add_argument('--no-plain', action='store_true', help='leave the plain way out')
    parser.add_argument('--num-workers', type=int, default=2, help='processes of the last rows (2)')
    return parser.parse_args()


def plain(prediction: Path, annotations: Path, thresholds: int, nms: bool) -> np.ndarray:
    """The counts of one image, every threshold and annotator by itself."""
    probability, truths = read_boundary_map(prediction), read_annotations(annotations)
    probability = edge_nms(probability) if nms else probability
    radius = MAX_DIST * float(np.hypot(*probability.shape))

    counts = []
    for threshold in threshold_values(thresholds):
        (values,) = thin_at_thresholds(probability, [threshold], 'scipy')
        used = np.zeros_like(values)
        found = 0
        for truth in truths:
            right, matched = match_boundaries(values, truth, radius)
            used |= right
            found += matched.sum()
        counts.append([found, truths.sum(), used.sum(), values.sum()])
    return np.array(counts)


def timed(count: Callable[[], list[np.ndarray]]) -> tuple[float, float, np.ndarray]:
    """Seconds on the clock and of the processors, children that have ended among them, and counts."""

    def used() -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, who))

    started, before = time.perf_counter(), used()
    counts = np.stack(count())
    return time.perf_counter() - started, used() - before, counts


def main() -> None:
    args = parse_args()
    for name in ('images', 'thresholds', 'num_workers'):
        if getattr(args, name) < 1:
            flag = f'--{name.replace("_", "-")} {getattr(args, name)}'
            sys.exit(f'benchmark_boundaries: {flag} must be 1 or more')
    try:
        pairs = list(pair_boundary_files(args.predictions, args.annotations).items())
    except ValueError as error:
        sys.exit(f'benchmark_boundaries: {error}')
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(args.images, len(pairs))).round().astype(int))
    pairs = [pairs[k] for k in chosen]
    rows = {}
    if not args.no_plain:
        bar = progress(pairs, len(pairs), 'plain SciPy')
        rows['plain SciPy'] = timed(
            lambda: [plain(*files, args.thresholds, args.nms) for _, files in bar]
        )
    for solver in ('scipy', 'numba')[: 1 + (solver_name() == 'numba')]:
        settings = dict(thresholds=args.thresholds, max_dist=MAX_DIST, nms=args.nms, solver=solver)
        tasks = [(*files, name, settings) for name, files in pairs]
        prepare_solver(solver)  # to compile is not part of it
        for workers in sorted({1, args.num_workers}):
            row = f'mmdla, {solver}, {workers} process{"es" if workers > 1 else ""}'
            rows[row] = timed(lambda: count_all(tasks, workers, row))  # noqa: B023
    slowest, _, wanted = next(iter(rows.values()))
    matchings = args.thresholds * sum(len(read_annotations(files[1])) for _, files in pairs)
    print(f'{len(pairs)} images, {matchings} matchings')
    print('| | s | CPU s | ms a matching | first / this | counts |\n|---|---|---|---|---|---|')
    for name, (seconds, used, counts) in rows.items():
        same = 'the same' if (counts == wanted).all() else 'DIFFERENT'
        each = 1000 * seconds / matchings
        print(
            f'| {name} | {seconds:.1f} | {used:.1f} | {each:.2f} | {slowest / seconds:.1f} | {same} |'
        )


def count_all(tasks: list[tuple], workers: int, what: str) -> list[np.ndarray]:
    """The counts of all images, in one process or several, whose start is part of it."""
    if workers == 1:
        return [count_image(*task) for task in progress(tasks, len(tasks), what)]
    with counting_pool(workers) as pool:
        return list(progress(pool.map(count_image, *zip(*tasks)), len(tasks), what))


if __name__ == '__main__':
    main()
