"""Score boundary maps as the BSDS benchmark does: ODS, OIS, AP and R50.

PRED_DIR holds a map an image: NAME.png of 8 or 16 bit (or JPEG, BMP, TIFF), or NAME.npy or NAME.mat
of values from 0 to 1. GT_DIR holds under the same names NAME.mat as BSDS500 has them, NAME.png (what is
not 0 is boundary), or a folder NAME of such PNGs, one an annotator. Files in folders are paired by the
path below PRED_DIR and GT_DIR. Maps of several PRED_DIR are averaged, or the best of each image chosen.
With --out-dir it writes scores.json, the benchmark's three tables (eval_bdry.txt, eval_bdry_thr.txt,
eval_bdry_img.txt), images.csv and precision_recall.png.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from ...io.boundary_files import (
    pair_boundary_files,
    read_annotations,
    read_boundary_map,
    report_problems,
)
from ...io.files import is_nonempty
from .nms import average_crispness, crispness, edge_nms
from .scores import (
    PRESETS,
    BoundaryScores,
    best_maps,
    count_image,
    counting_pool,
    map_hints,
    map_values,
    prepare_solver,
    threshold_values,
)
from .solvers import INSTALL, SOLVERS, solver_name

PROGRAM = 'eval_boundaries'
NMS = {name: p.default for name, p in inspect.signature(edge_nms).parameters.items()}
del NMS['probability']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'predictions',
        type=Path,
        nargs='+',
        metavar='PRED_DIR',
        help='folder of boundary maps; of several the maps are combined',
    )
    parser.add_argument('annotations', type=Path, metavar='GT_DIR', help='folder of annotations')
    parser.add_argument(
        '--combine',
        choices=('mean', 'best'),
        default='mean',
        help='of several PRED_DIR: average the maps of an image, as for RGB and HHA or scales (mean), '
        'or take the one with the largest F, as for granularities (best); default: mean',
    )
    parser.add_argument(
        '--preset',
        choices=PRESETS,
        help='--max-dist and --nms with its settings, as the papers on the data set have them; options '
        'that are given beside change it',
    )
    parser.add_argument(
        '--thresholds', type=int, default=99, help="how many (99, the benchmark's; fewer are faster)"
    )
    parser.add_argument(
        '--max-dist', type=float, help='how far a match may be, as a share of the diagonal (0.0075)'
    )
    parser.add_argument(
        '--nms',
        action=argparse.BooleanOptionalAction,
        help='suppress non-maxima of the maps first (if there is a --preset or --nms-...)',
    )
    for name, default in NMS.items():
        parser.add_argument(
            f'--nms-{name}', type=type(default), help=f'of --nms, see edge_nms ({default})'
        )
    parser.add_argument('--no-thin', action='store_true', help='do not thin the binary maps')
    parser.add_argument(
        '--crispness', action='store_true', help='also the average crispness of the maps as given, AC'
    )
    parser.add_argument(
        '--solver', choices=SOLVERS, help='what matches (numba if installed); both count the same'
    )
    parser.add_argument(
        '--num-workers', '--jobs', type=int, default=available(), help='processes (one a core)'
    )
    parser.add_argument('--out-dir', type=Path, help='folder to write to, which must be new or empty')
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


def chosen_settings(args: argparse.Namespace) -> dict:
    """Those of `count_boundaries`, from the preset and the options beside it.

    Raises:
        ValueError: If one is impossible.
    """
    preset = PRESETS.get(args.preset, {})
    given = {name: getattr(args, f'nms_{name}') for name in NMS}
    given = {name: value for name, value in given.items() if value is not None}
    use_nms = bool(preset or given) if args.nms is None else args.nms
    if given and not use_nms:
        raise ValueError(f'--nms-{next(iter(given))} contradicts --no-nms')
    max_dist = args.max_dist if args.max_dist is not None else preset.get('max_dist', 0.0075)
    if not 0 < max_dist < 1:
        raise ValueError(f'--max-dist {max_dist} must be a fraction of the diagonal, from 0 to 1')
    nms: dict | bool = {**NMS, **preset.get('nms', {}), **given} if use_nms else False
    if isinstance(nms, dict):
        try:
            edge_nms(np.zeros((2, 2)), **nms)
        except ValueError as error:
            raise ValueError(f'--nms-{error}') from error
    return dict(
        thresholds=args.thresholds,
        max_dist=max_dist,
        thin=not args.no_thin,
        nms=nms,
        solver=solver_name(args.solver),
    )


def pair_folders(
    folders: list[Path], annotations: Path, combine: str
) -> tuple[dict[str, Path], list[dict[str, list[Path]]]]:
    """Annotations by name, and the files of each set of maps to count, by name.

    Raises:
        ValueError: If an annotation has no map in a folder.
    """
    pairs = [pair_boundary_files(folder, annotations) for folder in folders]
    truths = {name: truth for name, (_, truth) in pairs[0].items()}
    for folder, each in zip(folders, pairs):
        if {name: truth for name, (_, truth) in each.items()} != truths:
            raise ValueError(f'{folder} and {folders[0]} must hold maps of the same names')
    files = [{name: path for name, (path, _) in each.items()} for each in pairs]
    if combine == 'best':
        return truths, [{name: [path] for name, path in each.items()} for each in files]
    return truths, [{name: [each[name] for each in files] for name in truths}]


def check_image(paths: list[Path], truth: Path, crisp: bool) -> tuple[str, list[tuple], float]:
    """What is wrong with the files of an image, the values of its maps, and their crispness."""
    try:
        maps = [read_boundary_map(path) for path in paths]
        wanted = read_annotations(truth).shape[1:]
    except (ValueError, OSError) as error:
        return str(error), [], math.nan
    for path, one in zip(paths, maps):
        if one.shape != wanted:
            problem = f'{path} is of size {one.shape}, {truth} of size {wanted} (height, width)'
            return problem, [], math.nan
    values = [map_values(one) for one in maps]
    return '', values, crispness(np.mean(maps, axis=0)) if crisp else math.nan


def progress(items: Iterable, total: int, what: str) -> Iterable:
    from rich.progress import track

    return track(items, total=total, description=what)


def references(
    given: list[str], own: str
) -> tuple[dict[str, np.ndarray], dict[str, tuple[float, float]]]:
    """Curves and points to draw beside.

    Raises:
        ValueError: If one is neither.
    """
    curves: dict[str, np.ndarray] = {}
    points: dict[str, tuple[float, float]] = {}
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


def write(
    out: Path, scores: BoundaryScores, summary: dict, columns: dict[str, dict], settings: dict,
    name: str, beside: tuple,
) -> None:  # fmt: skip
    """Write the tables and the plot; `columns` holds more of each image than the scores have."""
    from .curves import draw_precision_recall

    curve, images = scores.curve(), scores.images()
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
    with open(out / 'images.csv', 'w', newline='') as handle:
        writer = csv.writer(handle)
        writer.writerow(['image', *content['columns'], *columns])
        for image, row in zip(scores.names, images):
            more = [column[image] for column in columns.values()]
            writer.writerow([image, *(f'{value:.6g}' for value in row), *more])
    curves, points = beside
    draw_precision_recall(out / 'precision_recall.png', {name: curve, **curves}, points)


def check_files(
    folders: list[Path],
    truths: dict[str, Path],
    sets: list[dict[str, list[Path]]],
    crisp: bool,
    run: Callable,
    lowest: float,
) -> list[dict[str, float]]:
    """Read every file once, before the long part, and warn of what looks wrong.

    Returns:
        list[dict[str, float]]: The crispness of each set of maps, by name; NaN unless it is wanted.

    Raises:
        ValueError: With all that is wrong.
    """
    tasks = [(paths, truths[name], crisp) for each in sets for name, paths in each.items()]
    checked = list(progress(run(check_image, *zip(*tasks)), len(tasks), 'Reading'))
    report_problems([problem for problem, _, _ in checked if problem])
    parts = [checked[k : k + len(truths)] for k in range(0, len(checked), len(truths))]
    # Of each folder the values of its maps: a set is one folder, or all folders are one set.
    values = [dict(zip(truths, maps)) for part in parts for maps in zip(*(v for _, v, _ in part))]
    for folder, each in zip(folders, values):
        for hint in map_hints(each, lowest):
            print(f'Warning: {folder}: {hint}', flush=True)
    return [dict(zip(truths, (crispness for *_, crispness in part))) for part in parts]


def describe(settings: dict, workers: int) -> str:
    """What is done to the maps, and by what."""
    nms = settings['nms'] and ', '.join(f'{name} {value}' for name, value in settings['nms'].items())
    note = f' (Numba is much faster: {INSTALL})' if settings['solver'] == 'scipy' else ''
    return (
        f'{f"NMS ({nms})" if nms else "No NMS"}, {"thinned" if settings["thin"] else "not thinned"}; '
        f'matches within {settings["max_dist"]:g} of the diagonal, {settings["thresholds"]} thresholds'
        f'\nSolver: {settings["solver"]}{note}, {workers} process{"es" if workers > 1 else ""}'
    )


def main() -> None:
    """Run the command line."""
    args = parse_args()
    for option, least in (('thresholds', 1), ('num_workers', 0)):
        if getattr(args, option) < least:
            flag = f'--{option.replace("_", "-")} {getattr(args, option)}'
            sys.exit(f'{PROGRAM}: {flag} must be {least} or more')
    if args.out_dir is not None and is_nonempty(args.out_dir):
        sys.exit(f'{PROGRAM}: {args.out_dir} holds something already; choose another --out-dir')
    name = args.name or args.predictions[0].resolve().name
    try:
        settings = chosen_settings(args)
        beside = references(args.reference, name)
        truths, sets = pair_folders(args.predictions, args.annotations, args.combine)
        workers = max(1, min(args.num_workers, len(truths)))
        print(describe(settings, workers), flush=True)
        prepare_solver(settings['solver'])
        with counting_pool(workers) if workers > 1 else nullcontext() as pool:
            run = pool.map if pool else map
            lowest = threshold_values(args.thresholds)[0]
            crisp = check_files(args.predictions, truths, sets, args.crispness, run, lowest)
            if args.out_dir is not None:
                args.out_dir.mkdir(parents=True, exist_ok=True)
            started = time.perf_counter()
            tasks = [(paths, truths[n], n, settings) for each in sets for n, paths in each.items()]
            counted = list(progress(run(count_image, *zip(*tasks)), len(tasks), 'Counting'))
            seconds = time.perf_counter() - started
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f'{PROGRAM}: {error}')
    counts, chosen = best_maps(
        [dict(zip(truths, counted[k : k + len(truths)])) for k in range(0, len(counted), len(truths))]
    )
    scores = BoundaryScores.of(counts)
    summary, columns = scores.summary(), {}
    if len(sets) > 1:
        columns['folder'] = {n: args.predictions[k].as_posix() for n, k in chosen.items()}
    if args.crispness:
        columns['crispness'] = {n: crisp[k][n] for n, k in chosen.items()}
        average = average_crispness(columns['crispness'].values())
        summary |= {} if math.isnan(average) else dict(AC=average)
    print(f'{len(counts)} images x {args.thresholds} thresholds in {seconds:.0f} s')
    report(summary, args.thresholds)
    if args.out_dir is not None:
        folders = [folder.as_posix() for folder in args.predictions]
        run_with = dict(settings, preset=args.preset, combine=args.combine, predictions=folders)
        write(args.out_dir, scores, summary, columns, run_with, name, beside)
        print(f'Written: {args.out_dir}')


def report(summary: dict[str, float], thresholds: int) -> None:
    if thresholds != 99:
        print(f'{thresholds} thresholds: close to the benchmark, which has 99, but not the same.')
    print(
        f'ODS {summary["ODS"]:.4f} (threshold {summary["threshold"]:.3f}, recall '
        f'{summary["recall"]:.4f}, precision {summary["precision"]:.4f})'
    )
    for name in ('OIS', 'AP', 'R50', 'AC'):
        if name in summary:
            print(f'{name:3} {summary[name]:.4f}')
