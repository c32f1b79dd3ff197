"""How fast boundaries are evaluated: `benchmark_boundaries.py PRED_DIR GT_DIR`, as eval_boundaries.py.

Counts the same images in turn: every threshold and annotator by itself, in one call of SciPy's solver
(plain); and as the metric does it, in one process and in several. Prints the times, their ratios, and
whether all counts are the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.evaluation.boundary.matching import match_boundaries
from mmdla.evaluation.boundary.nms import edge_nms
from mmdla.evaluation.boundary.scores import count_image, counting_pool, threshold_values
from mmdla.evaluation.boundary.thinning import thin_at_thresholds
from mmdla.io.boundary_files import pair_boundary_files, read_annotations, read_boundary_map

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
    parser.add_argument('--jobs', type=int, default=2, help='processes of the last row (2)')
    return parser.parse_args()


def plain(prediction: Path, annotations: Path, thresholds: int, nms: bool) -> np.ndarray:
    """The counts of one image, every threshold and annotator by itself."""
    probability, truths = read_boundary_map(prediction), read_annotations(annotations)
    probability = edge_nms(probability) if nms else probability
    radius = MAX_DIST * float(np.hypot(*probability.shape))

    counts = []
    for threshold in threshold_values(thresholds):
        (values,) = thin_at_thresholds(probability, [threshold])
        used = np.zeros_like(values)
        found = 0
        for truth in truths:
            right, matched = match_boundaries(values, truth, radius)
            used |= right
            found += matched.sum()
        counts.append([found, truths.sum(), used.sum(), values.sum()])
    return np.array(counts)


def timed(name: str, count: Callable[[], list[np.ndarray]]) -> tuple[float, np.ndarray]:
    print(f'{name}:')
    started = time.perf_counter()
    counts = np.stack(count())
    print()
    return time.perf_counter() - started, counts


def main() -> None:
    args = parse_args()
    for name in ('images', 'thresholds', 'jobs'):
        if getattr(args, name) < 1:
            sys.exit(f'benchmark_boundaries: --{name} {getattr(args, name)} must be 1 or more')
    try:
        pairs = list(pair_boundary_files(args.predictions, args.annotations).items())
    except ValueError as error:
        sys.exit(f'benchmark_boundaries: {error}')
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(args.images, len(pairs))).round().astype(int))
    pairs = [pairs[k] for k in chosen]
    settings = dict(thresholds=args.thresholds, max_dist=MAX_DIST, nms=args.nms)
    tasks = [(*files, name, settings) for name, files in pairs]

    def one_by_one() -> list[np.ndarray]:
        files = track_iter_progress([files for _, files in pairs])
        return [plain(*f, args.thresholds, args.nms) for f in files]

    rows = {
        'plain': timed('plain', one_by_one),
        'mmdla, 1 process': timed(
            'mmdla, 1 process', lambda: [count_image(*task) for task in track_iter_progress(tasks)]
        ),
    }
    if args.jobs > 1:
        name = f'mmdla, {args.jobs} processes'
        with counting_pool(args.jobs) as pool:
            # not the time that processes take to start, once a run
            list(pool.map(count_image, *zip(*tasks[: args.jobs] * 2)))
            rows[name] = timed(name, lambda: list(pool.map(count_image, *zip(*tasks))))
    slowest, wanted = rows['plain']
    matchings = args.thresholds * sum(len(read_annotations(files[1])) for _, files in pairs)
    print(f'{len(pairs)} images, {matchings} matchings')
    print('| | s | ms a matching | plain / this | counts |\n|---|---|---|---|---|')
    for name, (seconds, counts) in rows.items():
        same = 'the same' if (counts == wanted).all() else 'DIFFERENT'
        each = 1000 * seconds / matchings
        print(f'| {name} | {seconds:.1f} | {each:.2f} | {slowest / seconds:.2f} | {same} |')


if __name__ == '__main__':
    main()
