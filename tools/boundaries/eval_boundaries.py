"""Score boundary maps as the BSDS benchmark does: `eval_boundaries.py PRED_DIR GT_DIR`.

PRED_DIR holds a map an image, NAME.png of 8 or 16 bit (or JPEG, BMP, TIFF) or NAME.npy of values from 0
to 1. GT_DIR holds under the same names NAME.mat as BSDS500 has them, NAME.png (what is not 0 is
boundary), or a folder NAME of such PNGs, one an annotator. Files in folders are paired by their path
below PRED_DIR and GT_DIR. Prints ODS, OIS, AP and R50; with --out writes scores.json,
the benchmark's three tables (eval_bdry.txt, eval_bdry_thr.txt, eval_bdry_img.txt) and
precision_recall.png.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.datasets.folders import is_nonempty
from mmdla.evaluation.boundary.scores import (
    BoundaryScores,
    count_image,
    counting_pool,
    map_hints,
    map_values,
    threshold_values,
)
from mmdla.io.boundary_files import (
    pair_boundary_files,
    read_annotations,
    read_boundary_map,
    report_problems,
)

TOOL = 'eval_boundaries'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', type=Path, metavar='PRED_DIR', help='folder of boundary maps')
    parser.add_argument('annotations', type=Path, metavar='GT_DIR', help='folder of annotations')
    parser.add_argument(
        '--thresholds', type=int, default=99, help="how many (99, the benchmark's; fewer are faster)"
    )
    parser.add_argument(
        '--max-dist',
        type=float,
        default=0.0075,
        help='how far a match may be, as a share of the diagonal (0.0075)',
    )
    parser.add_argument('--no-thin', action='store_true', help='do not thin the binary maps')
    parser.add_argument('--nms', action='store_true', help='suppress non-maxima of the maps first')
    parser.add_argument('--jobs', type=int, default=available(), help='processes (one a core)')
    parser.add_argument('--out', type=Path, help='folder to write to, which must be new or empty')
    parser.add_argument('--name', help='of the curve in the plot (the name of PRED_DIR)')
    parser.add_argument(
        '--reference',
        action='append',
        default=[],
        metavar='NAME=WHAT',
        help='also in the plot, may be repeated: a point NAME=RECALL,PRECISION, or the scores.json of '
        'another evaluation',
    )
    return parser.parse_args()


def available() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def check(pairs: dict[str, tuple[Path, Path]]) -> dict[str, tuple[float, float]]:
    """Read every file once, before the long part, and return what `map_hints` takes.

    Raises:
        ValueError: With all that is wrong.
    """
    problems, values = [], {}
    for name, (map_path, truth_path) in pairs.items():
        try:
            probability = read_boundary_map(map_path)
            values[name] = map_values(probability)
            size, wanted = probability.shape, read_annotations(truth_path).shape[1:]
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        if size != wanted:
            problems.append(
                f'{map_path} is of size {size}, {truth_path} of size {wanted} (height, width)'
            )
    report_problems(problems)
    return values


def count_all(pairs: dict[str, tuple[Path, Path]], settings: dict, jobs: int) -> dict[str, np.ndarray]:
    """The counts of all images by name, with a progress bar."""
    jobs = min(jobs, len(pairs))
    arguments = (*zip(*pairs.values()), pairs, [settings] * len(pairs))
    with counting_pool(jobs) if jobs > 1 else nullcontext() as pool:
        counts = (pool.map if pool else map)(count_image, *arguments)
        return dict(zip(pairs, track_iter_progress((counts, len(pairs)))))


def references(
    given: list[str], own: str
) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, float]]]:
    """Curves and points to draw beside.

    Raises:
        ValueError: If one is neither.
    """
    curves, points = {}, {}
    for text in given:
        name, _, what = text.partition('=')
        if name in ('', own, *curves, *points):
            raise ValueError(f'--reference {text}: its name must be one that no other curve has')
        try:
            if Path(what).is_file():
                curve = np.array(json.loads(Path(what).read_text())['thresholds'], float)
                if curve.ndim != 2 or curve.shape[1] != 4:
                    raise ValueError
                curves[name] = curve
            else:
                recall, precision = (float(value) for value in what.split(','))
                if not (0 < recall <= 1 and 0 < precision <= 1):
                    raise ValueError
                points[name] = (recall, precision)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise ValueError(
                f'--reference {text}: must be NAME=RECALL,PRECISION, both above 0 and up to 1, or '
                'NAME=FILE with the scores.json of another evaluation'
            ) from None
    return curves, points


def write(out: Path, scores: BoundaryScores, settings: dict, name: str, beside: tuple) -> None:
    """Write the tables and the plot."""
    from mmdla.visualization.precision_recall import draw_precision_recall

    summary, curve, images = scores.summary(), scores.curve(), scores.images()
    content = dict(
        summary=summary,
        settings=settings,
        columns=['threshold', 'recall', 'precision', 'F'],
        thresholds=curve.tolist(),
        images={image: row.tolist() for image, row in zip(scores.names, images)},
    )
    (out / 'scores.json').write_text(json.dumps(content, indent=1) + '\n')
    keys = ('threshold', 'recall', 'precision', 'ODS', 'OIS_recall', 'OIS_precision', 'OIS', 'AP')
    rows = np.column_stack([np.arange(1, len(images) + 1), images])
    for file, table in (('', [[summary[k] for k in keys]]), ('_thr', curve), ('_img', rows)):
        np.savetxt(out / f'eval_bdry{file}.txt', table, fmt='%10g')
    curves, points = beside
    draw_precision_recall(out / 'precision_recall.png', {name: curve, **curves}, points)


def main() -> None:
    args = parse_args()
    settings = dict(
        thresholds=args.thresholds, max_dist=args.max_dist, thin=not args.no_thin, nms=args.nms
    )
    if args.jobs < 1:
        sys.exit(f'{TOOL}: --jobs {args.jobs} must be 1 or more')
    if args.thresholds < 1:
        sys.exit(f'{TOOL}: --thresholds {args.thresholds} must be 1 or more')
    if not 0 < args.max_dist < 1:
        sys.exit(f'{TOOL}: --max-dist {args.max_dist} must be a share of the diagonal, from 0 to 1')
    if args.out is not None and is_nonempty(args.out):
        sys.exit(f'{TOOL}: {args.out} holds something already; choose another --out')
    name = args.name or args.predictions.resolve().name
    try:
        beside = references(args.reference, name)
        pairs = pair_boundary_files(args.predictions, args.annotations)
        hints = map_hints(check(pairs), threshold_values(args.thresholds)[0])
        for hint in hints:
            print(f'Warning: {args.predictions}: {hint}', flush=True)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        counts = count_all(pairs, settings, args.jobs)
    except (ValueError, OSError) as error:
        sys.exit(f'{TOOL}: {error}')
    scores = BoundaryScores.of(counts)
    print(
        f'\n{len(counts)} images x {args.thresholds} thresholds in '
        f'{time.perf_counter() - started:.0f} s, {args.jobs} process{"es" if args.jobs > 1 else ""}'
    )
    if args.thresholds != 99:
        print(f'{args.thresholds} thresholds: close to the benchmark, which has 99, but not the same.')
    s = scores.summary()
    print(
        f'ODS {s["ODS"]:.4f} (threshold {s["threshold"]:.3f}, recall {s["recall"]:.4f}, precision '
        f'{s["precision"]:.4f})\nOIS {s["OIS"]:.4f}\nAP  {s["AP"]:.4f}\nR50 {s["R50"]:.4f}'
    )
    if args.out is not None:
        write(args.out, scores, settings, name, beside)
        print(f'Written: {args.out}')


if __name__ == '__main__':
    main()
