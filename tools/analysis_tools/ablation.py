"""Train variants of a config alike and compare: `python tools/analysis_tools/ablation.py CONFIG`.

Without further arguments the variants are Figure 2's six forms of aggregation. Each is trained by
tools/train.py in a folder of its own under the work folder, with nothing changed but one setting and
the seed; what has been trained to its end is not trained again. Prints a table and writes it, and a
plot, to the work folder.

    python tools/analysis_tools/ablation.py configs/dla34-8s_demo.py --amp --seeds 0 1
    python tools/analysis_tools/ablation.py CONFIG --vary model.backbone.link_levels True False
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import track_iter_progress

import mmdla  # noqa: F401
from mmdla.analysis.complexity import blank_images, count
from mmdla.analysis.memory import saved_bytes
from mmdla.engine.config import add_cfg_options, build_model, read_config
from mmdla.models.layers import FORMS

TRAIN = Path(__file__).resolve().parents[1] / 'train.py'
SETTING = 'model.backbone.aggregation'


@dataclass
class Row:
    """One variant: what it costs, and its score with each seed."""

    variant: str
    params: float  # millions
    macs: float  # billions
    saved: float  # MiB
    scores: list[float]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='path of the config')
    parser.add_argument(
        '--vary',
        nargs='+',
        default=[SETTING, *FORMS],
        metavar=('SETTING', 'VALUE'),
        help=f'the setting and its values ({SETTING}, the six forms)',
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--metric', default='mIoU', help='of the validation at the end (mIoU)')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/ablation/CONFIG_SETTING')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=[256, 256], help='image to count for (256 256)'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision, as in tools/train.py')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='as in tools/train.py, for all variants'
    )
    args = parser.parse_args()
    if len(args.vary) < 2:
        parser.error(f'--vary {args.vary[0]}: give at least one value after the setting')
    if not args.config.is_file():
        parser.error(f'{args.config}: there is no such config')
    if min(args.shape) < 1:
        parser.error(f'--shape {args.shape}: two positive numbers')
    args.vary, args.seeds = list(dict.fromkeys(args.vary)), list(dict.fromkeys(args.seeds))
    name = f'{args.config.stem}_{args.vary[0].rpartition(".")[2]}'
    args.work_dir = args.work_dir or Path('work_dirs/ablation') / name
    return args


def config_of(args: argparse.Namespace, *options: str) -> Config:
    """The config with the options that all variants have, and those given."""
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_cfg_options(parser)
    words = [str(args.config), '--cfg-options', *args.cfg_options, *options]
    return read_config(parser.parse_args(words))


def score_of(folder: Path, metric: str) -> float:
    """The metric of a training run's last validation."""
    found: dict[str, float] = {}
    for log in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            found |= json.loads(line)
    if metric not in found:
        sys.exit(f'ablation: {folder} has logged no {metric}; --metric is one of {", ".join(found)}')
    return found[metric]


def train(args: argparse.Namespace, variant: str, seed: int) -> float:
    """Score of a variant, trained now unless it has been."""
    folder = args.work_dir / f'{variant}_seed{seed}'.replace('/', '-')
    options = [*args.cfg_options, f'{args.vary[0]}={variant}', f'randomness.seed={seed}']
    trained = folder / 'trained.txt'
    run = f'# amp: {args.amp}\n{config_of(args, *options).pretty_text}'
    if trained.is_file():
        if trained.read_text() != run:
            sys.exit(
                f'ablation: {folder} holds a run of another config or with other options; choose '
                'another --work-dir, or remove it'
            )
        return score_of(folder, args.metric)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(TRAIN), str(args.config), '--work-dir', str(folder)]
    command += ['--amp'] * args.amp + ['--cfg-options', *options]
    with (folder / 'output.log').open('w') as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        last = (folder / 'output.log').read_text().strip().splitlines()[-1:]
        sys.exit(
            f'ablation: {variant}, seed {seed}, failed ({"".join(last)}); see {folder / "output.log"}'
        )
    trained.write_text(run)
    return score_of(folder, args.metric)


def cost(args: argparse.Namespace, variant: str) -> Row:
    """Parameters, multiply-adds and saved bytes of a variant's model, for one image."""
    cfg = config_of(args, f'{args.vary[0]}={variant}')
    model = build_model(cfg)
    # Two: in training, batch norm wants more than one value a channel.
    images = blank_images(model, 2, *args.shape)
    params, macs = count(model, images[:1])
    return Row(variant, params / 1e6, macs / 1e9, saved_bytes(model, images) / 2 / 2**20, [])


def table(rows: list[Row], args: argparse.Namespace) -> str:
    """Markdown table."""
    shape = 'x'.join(map(str, args.shape))
    seeds = ', '.join(map(str, args.seeds))
    heads = [
        args.vary[0].rpartition('.')[2],
        'Parameters, M',
        f'GMACs at {shape}',
        'Saved, MiB an image',
        f'{args.metric}, seed {seeds}',
        'Mean',
    ]
    lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    for row in rows:
        scores = ', '.join(f'{s:.2f}' for s in row.scores)
        lines.append(
            f'| {row.variant} | {row.params:.2f} | {row.macs:.2f} | {row.saved:.1f} | {scores} | '
            f'{statistics.mean(row.scores):.2f} |'
        )
    return '\n'.join(lines)


def plot(rows: list[Row], args: argparse.Namespace, path: Path) -> None:
    """Score over each of the three costs: a small point for each seed, a large one for their mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout='constrained')
    axes = figure.subplots(1, 3, sharey=True)
    costs = dict(params='parameters, M', macs='GMACs', saved='saved for backward, MiB an image')
    for axis, (name, label) in zip(axes, costs.items()):
        for i, row in enumerate(rows):
            x, mean = getattr(row, name), statistics.mean(row.scores)
            axis.plot([x] * len(row.scores), row.scores, '.', color=f'C{i}')
            axis.plot(x, mean, 'o', color=f'C{i}', label=row.variant)
        axis.set_xlabel(label)
        axis.margins(x=0.1, y=0.1)
    axes[0].set_ylabel(args.metric)
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside right center')
    figure.suptitle(f'{args.config.stem}: {args.vary[0]}')
    figure.savefig(path, dpi=150)


def main() -> None:
    args = parse_args()
    try:
        rows = [cost(args, variant) for variant in args.vary[1:]]
    except (KeyError, TypeError, ValueError) as error:
        sys.exit(f'ablation: {args.config} with {args.vary[0]}: {error}')
    by_variant = {row.variant: row for row in rows}
    # Seed by seed, so that what is there after an hour compares all variants.
    jobs = [(variant, seed) for seed in args.seeds for variant in by_variant]
    for variant, seed in track_iter_progress(jobs):
        by_variant[variant].scores.append(train(args, variant, seed))
    text = table(rows, args)
    print(f'\n\n{text}')
    (args.work_dir / 'table.md').write_text(text + '\n')
    plot(rows, args, args.work_dir / 'plot.png')
    print(f'\nTable, plot and runs: {args.work_dir}')


if __name__ == '__main__':
    main()
