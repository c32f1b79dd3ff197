"""Compare networks: `python tools/benchmarks/compare_models.py [CONFIG ...]`.

Parameters, multiply-adds, bytes kept for backward and speed of whole models, all in this process and
on this machine, beside their published errors. A CONFIG is

- the path of a config: of this project, of mmpretrain, of mmseg;
- a name that mmpretrain knows: resnet50_8xb32_in1k, dla34_imagenet;
- timm/NAME, a network of timm's: timm/mobilenetv3_large_100.

Without any, the networks of the DLA paper's Figure 5 and its compact ones. The models take turns in
each round, so that what else the machine does meets all. Times are medians of the rounds; a ratio of 2
is twice the reference's time, with the range of its middle half in brackets. Weights are random.
Prints a table and writes it, the raw figures and a plot to the output folder.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import track_iter_progress
from torch import nn

import mmdla
from mmdla.analysis.complexity import blank_images, count
from mmdla.analysis.memory import saved_bytes
from mmdla.analysis.timing import inference, ratio, time_interleaved, training_step
from mmdla.engine.config import build_model, scope_of
from mmdla.engine.platform import device_name
from mmdla.registry import check_library

PAPER = [
    *(f'dla{arch}_imagenet' for arch in ('34', '60', '102', '169', '60x', '102x', '102x2')),
    *(f'dla{arch}_imagenet' for arch in ('46_c', '46x_c', '60x_c')),
    *(f'resnet{depth}_8xb32_in1k' for depth in (34, 50, 101, 152)),
    *(f'resnext{width}_8xb32_in1k' for width in ('50-32x4d', '101-32x4d', '101-32x8d')),
    *(f'densenet{depth}_3rdparty_in1k' for depth in (121, 169, 201, 161)),
    'squeezenet_imagenet',
    'squeezenet-bypass_imagenet',
]
FILES = ('table.md', 'figures.json', 'plot.png')
WORKS = {'inference': inference, 'training': training_step}
HEADS = {'inference': 'Inference', 'training': 'Training step'}
MIB = 2**20


@dataclass
class Row:
    """One model: what it costs, and the error that its metafile gives."""

    config: str  # as named by the user
    name: str
    top1: float | None = None  # error on ImageNet, %
    top5: float | None = None
    params: int = 0
    macs: int = 0  # for one image
    saved: float = 0.0  # bytes, for one image
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of a batch in each round, by work

    @property
    def label(self) -> str:
        """The name without what says how it was trained."""
        return re.split(r'_(?=imagenet|in1k|3rdparty|\d+xb)', self.name)[0]

    def ms(self, work: str, batch: int) -> float:
        """Milliseconds an image."""
        return 1e3 * statistics.median(self.seconds[work]) / batch


def parse_args() -> tuple[argparse.Namespace, list[Config], list[Row]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='path, name or timm/NAME')
    parser.add_argument('--reference', help='the CONFIG that ratios refer to (the first)')
    parser.add_argument('--shape', type=int, nargs=2, default=[224, 224], help='image (224 224)')
    parser.add_argument('--batch-size', type=int, default=4, help='images to time together (4)')
    parser.add_argument('--rounds', type=int, default=9, help='(9)')
    parser.add_argument('--no-training', action='store_true', help='leave the training step out')
    parser.add_argument(
        '--device',
        choices=['cpu', 'cuda'],
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='(cuda where there is one)',
    )
    parser.add_argument('--out-dir', type=Path, help='folder (work_dirs/compare_models/TIME)')
    args = parser.parse_args()
    for name, value in (
        ('shape', min(args.shape)),
        ('batch-size', args.batch_size),
        ('rounds', args.rounds),
    ):
        if value < 1:
            parser.error(f'--{name} {value}: must be positive')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: PyTorch finds no GPU here')
    args.configs = list(dict.fromkeys(args.configs or PAPER))
    try:
        found = [find(name) for name in args.configs]
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    rows = [row for _, row in found]
    args.reference = args.reference or args.configs[0]
    if args.reference not in {name for row in rows for name in (row.config, row.name)}:
        parser.error(f'--reference {args.reference}: must be one of {", ".join(args.configs)}')
    args.out_dir = args.out_dir or Path('work_dirs/compare_models') / time.strftime('%Y%m%d_%H%M%S')
    return args, [cfg for cfg, _ in found], rows


def find(name: str) -> tuple[Config, Row]:
    """The config that an argument names, and a row with the published errors, if there are any.

    Raises:
        ValueError: If there is none, or it has no model.
    """
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise ValueError(f'{name}: there is no such config')
        cfg, row = Config.fromfile(name), Row(name, Path(name).stem)
        if 'model' not in cfg:
            raise ValueError(f'{name}: must be a config with a model, and has none')
        return cfg, row
    library, _, network = name.rpartition('/')
    if library == 'timm':
        import timm

        network = network.lower()
        known(name, [f'timm/{model}' for model in timm.list_models()])
        model = dict(type='TimmClassifier', model_name=network)
        return Config(dict(default_scope='mmpretrain', model=model)), Row(name, network)
    check_library('mmpretrain', f'the name {name}')
    from mmpretrain.apis.model import ModelHub, list_models

    mmdla.register_all_modules()
    known(name, list_models())
    info = ModelHub.get(name)
    row = Row(name, name)
    for result in info.results or []:
        # Other data have other errors.
        if result.task == 'Image Classification' and result.dataset == 'ImageNet-1k':
            metrics = result.metrics or {}
            errors = {key: round(100 - value, 2) for key, value in metrics.items()}
            row.top1, row.top5 = errors.get('Top 1 Accuracy'), errors.get('Top 5 Accuracy')
    return info.config, row


def known(name: str, names: list[str]) -> None:
    """Raise ValueError, with what is nearest to it, for a name that is none of these."""
    if name.lower() not in names:
        near = ', '.join(difflib.get_close_matches(name, names, 5)) or f'{names[0]} ...'
        raise ValueError(f'{name}: must be the path of a config (.py) or a known name, as {near}')


def prepare(cfg: Config, row: Row, args: argparse.Namespace) -> nn.Module:
    """The model, on its device; what it costs goes to the row."""
    # The configs are of many libraries, and mmengine warns of each change.
    with DefaultScope.overwrite_default_scope(scope_of(cfg)):
        model = build_model(cfg).to(args.device)
    # Two: in training, batch norm wants more than one value a channel.
    images = blank_images(model, 2, *args.shape)
    row.params, row.macs = count(model, images[:1])
    row.saved = saved_bytes(model, images) / 2
    return model


def settings(args: argparse.Namespace) -> dict:
    """What makes two comparisons the same."""
    names = ('configs', 'reference', 'shape', 'batch_size', 'rounds', 'no_training', 'device')
    return {name: getattr(args, name) for name in names}


def check_out(args: argparse.Namespace) -> None:
    """Exit, rather than write over what is not an earlier run of the same comparison."""
    there = [name for name in FILES if (args.out_dir / name).exists()]
    try:
        same = json.loads((args.out_dir / 'figures.json').read_text())['settings'] == settings(args)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if there and not same:
        sys.exit(
            f'compare_models: {args.out_dir} holds {", ".join(there)} of something else, or with other '
            'options; choose another --out-dir, or remove it'
        )


def table(rows: list[Row], args: argparse.Namespace) -> str:
    """Markdown table."""
    shape = 'x'.join(map(str, args.shape))
    reference = next(row for row in rows if args.reference in (row.config, row.name))
    heads = ['Model', 'Parameters, M', f'GMACs at {shape}', 'Saved, MiB an image']
    for work in reference.seconds:
        heads += [f'{HEADS[work]}, ms an image', f'to {reference.label}']
    heads += ['Top-1 error, %', 'Top-5 error, %']
    lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    for row in rows:
        cells = [row.name, f'{row.params / 1e6:.2f}', f'{row.macs / 1e9:.2f}', f'{row.saved / MIB:.1f}']
        for work, seconds in row.seconds.items():
            middle, low, high = ratio(seconds, reference.seconds[work])
            cells += [f'{row.ms(work, args.batch_size):.1f}', f'{middle:.2f} ({low:.2f}-{high:.2f})']
        cells += ['' if error is None else f'{error:.2f}*' for error in (row.top1, row.top5)]
        lines.append(f'| {" | ".join(cells)} |')
    lines += [
        '',
        f'{processor(args)}; PyTorch {torch.__version__}; {args.batch_size}x3x{shape}, float32, eager; '
        f'medians of {args.rounds} rounds, middle half in brackets.',
    ]
    if any(row.top1 is not None for row in rows):
        lines.append(r'\* published with the model (ImageNet-1k), not measured here.')
    return '\n'.join(lines)


def processor(args: argparse.Namespace) -> str:
    """What the models ran on."""
    if args.device == 'cpu' and torch.cuda.is_available():
        return f'CPU, {torch.get_num_threads()} threads'
    return device_name()


def plot(rows: list[Row], args: argparse.Namespace, path: Path) -> None:
    """Published error over each of the four costs, or, of models without any, time over the others.

    Models whose names differ in their first number only are joined by a line; the number stands at
    the point.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    costs = {
        'parameters, M': [row.params / 1e6 for row in rows],
        'GMACs': [row.macs / 1e9 for row in rows],
        'saved for backward, MiB an image': [row.saved / MIB for row in rows],
        'inference, ms an image': [row.ms('inference', args.batch_size) for row in rows],
    }
    published = [i for i, row in enumerate(rows) if row.top1 is not None]
    if published:
        label, heights = 'top-1 error, % (published)', [row.top1 for row in rows]
    else:
        published, (label, heights) = range(len(rows)), costs.popitem()
    series: dict[str, dict[str, list[int]]] = {}
    for i in published:
        kind = re.sub(r'\d+', '*', rows[i].label, count=1)
        series.setdefault(re.split(r'\*', kind)[0], {}).setdefault(kind, []).append(i)

    figure = Figure(figsize=(13, 10), layout='constrained')
    axes = list(figure.subplots(2, 2, sharey=True).flat)
    for axis, (cost, x) in zip(axes, costs.items()):
        axis.loglog()
        axis.margins(0.08)
        for c, kinds in enumerate(series.values()):
            for marker, (kind, members) in zip('osD^vP*X<>' * len(rows), kinds.items()):
                members = sorted(members, key=lambda i: x[i])
                points = [x[i] for i in members], [heights[i] for i in members]
                axis.plot(*points, f'{marker}-', color=f'C{c}', markersize=4, lw=1, label=kind)
                for i, *point in zip(members, *points):
                    number = re.search(r'\d+|$', rows[i].label)[0]
                    axis.annotate(
                        number, point, (3, 3), textcoords='offset points', size=7, color=f'C{c}'
                    )
        for side, subs in ((axis.xaxis, (1, 2, 5)), (axis.yaxis, (1, 2, 2.5, 3, 4, 5, 7))):
            side.set_major_locator(LogLocator(subs=subs))
            side.set_major_formatter(StrMethodFormatter('{x:g}'))
            side.set_minor_formatter(NullFormatter())
        axis.set_xlabel(cost)
        axis.grid(alpha=0.3)
    for axis in axes[len(costs) :]:
        axis.remove()
    figure.supylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside right center')
    figure.savefig(path, dpi=150)


def main() -> None:
    args, cfgs, rows = parse_args()
    check_out(args)
    # Deep networks with random weights may fade to numbers so small that CPUs take longer over them.
    torch.set_flush_denormal(True)
    models = []
    for cfg, row in track_iter_progress(list(zip(cfgs, rows))):
        try:
            models.append(prepare(cfg, row, args))
        except Exception as error:
            sys.exit(f'\ncompare_models: {row.config}: {type(error).__name__}: {error}')
    works = {k: v for k, v in WORKS.items() if k == 'inference' or not args.no_training}
    jobs = [(row, work, model) for work in works for row, model in zip(rows, models)]
    images = {
        row.config: torch.rand_like(blank_images(model, args.batch_size, *args.shape))
        for row, model in zip(rows, models)
    }
    runs = [works[work](model, images[row.config]) for row, work, model in jobs]
    try:
        times = time_interleaved(runs, track_iter_progress(range(args.rounds)))
    except ValueError as error:  # batch norm, of one value a channel
        sys.exit(f'\ncompare_models: {error}; take a greater --shape or --batch-size, or --no-training')
    for (row, work, _), seconds in zip(jobs, times):
        row.seconds[work] = seconds

    text = table(rows, args)
    print(f'\n\n{text}')
    args.out_dir.mkdir(parents=True, exist_ok=True)
    (args.out_dir / 'table.md').write_text(text + '\n')
    figures = dict(
        settings=settings(args),
        processor=processor(args),
        torch=torch.__version__,
        models=[asdict(row) for row in rows],
    )
    (args.out_dir / 'figures.json').write_text(json.dumps(figures, indent=1) + '\n')
    plot(rows, args, args.out_dir / 'plot.png')
    hidden = [row.name for row in rows if row.top1 is None]
    if 0 < len(hidden) < len(rows):
        print(f'\nNot in the plot, having no published error: {", ".join(hidden)}')
    print(f'\nTable, figures and plot: {args.out_dir}')


if __name__ == '__main__':
    main()
