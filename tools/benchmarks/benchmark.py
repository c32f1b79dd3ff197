"""Speed beside timm and beside the released code's computations.

`python tools/benchmarks/benchmark.py [--task segmentation] [--mode training]`

All variants of a network run in this process, in turn, so that what else the machine does meets all.
Times are medians over the rounds; a ratio is the time of the reference, the first variant, over this
one's, 1.10 meaning 1.10 times as fast, with the range of its middle half.

- Classification: the networks of --archs with their classifiers. The reference is timm's, as it is.
- Segmentation: DLA-34 with IDA-up at stride 2 and 19 classes, to the label map of the image's size in
  inference. The reference is this project's by default, which computes what the released code does (but
  for its dead projections) and then mmseg's predict does. Beside it, with one head of mmseg's
  (FCNHead), timm's backbone by way of TIMMBackbone and ours.

Weights are random. Prints a table; --out-dir writes table.md, figures.json and plot.png to a new
folder.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

import mmdla  # noqa: F401
from mmdla.analysis.timing import inference, ratio, time_interleaved, training_step
from mmdla.deploy import optimize
from mmdla.engine.config import build_model
from mmdla.engine.platform import device_name
from mmdla.io.files import is_nonempty
from mmdla.models import DLA

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
CONFIG = Path(__file__).resolve().parents[2] / 'configs/dla34_cityscapes.py'
FILES = ('table.md', 'figures.json', 'plot.png')
SHAPES = {
    ('classification', 'inference'): (4, 224, 224),
    ('classification', 'training'): (4, 224, 224),
    ('segmentation', 'inference'): (1, 512, 1024),
    ('segmentation', 'training'): (2, 256, 512),
}
Run = Callable[[], object]


class Classifier(nn.Module):
    """DLA with the released classifier: average pooling and a linear layer."""

    def __init__(self, arch: str, with_cp: bool | str = False):
        super().__init__()
        self.backbone = DLA(arch, out_indices=(5,), with_cp=with_cp)
        self.backbone.init_weights()
        self.fc = nn.Linear(self.backbone.channels[-1], 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def last(model: nn.Module) -> nn.Module:
    """Channels-last."""
    return model.to(memory_format=torch.channels_last)


def mixed(run: Run) -> Run:
    """In mixed precision, bfloat16."""

    def call() -> object:
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            return run()

    return call


def channels_last_input(model: nn.Module, x: Tensor) -> Run:
    """Inference on an input that is channels-last already, and of the model's type."""
    kind = next(model.parameters()).dtype
    return inference(model, x.to(kind).to(memory_format=torch.channels_last))


def without_gradients(model: nn.Module, x: Tensor) -> Run:
    """Inference of a compiled model."""
    x = x.to(memory_format=torch.channels_last)
    model.eval()

    def run() -> object:
        with torch.no_grad():
            return model(x)

    return run


def classification(arch: str, work: str, x: Tensor) -> dict[str, Run]:
    """What is timed for a classifier: by name, the reference first."""
    import timm

    def theirs() -> nn.Module:
        return timm.create_model(f'dla{arch}').to(DEVICE)

    def ours(**kwargs) -> nn.Module:
        return Classifier(arch, **kwargs).to(DEVICE)

    if work == 'training':
        return {
            'timm': training_step(theirs(), x),
            'timm, channels-last, compiled': training_step(torch.compile(last(theirs())), x),
            'mmdla': training_step(ours(), x),
            "mmdla, with_cp='norm'": training_step(ours(with_cp='norm'), x),
            'mmdla, channels-last': training_step(last(ours()), x),
            'mmdla, channels-last, compiled': training_step(torch.compile(last(ours())), x),
            'timm, channels-last, bfloat16': mixed(training_step(last(theirs()), x)),
            'mmdla, channels-last, bfloat16': mixed(training_step(last(ours()), x)),
        }
    quick = partial(optimize, ours().eval(), x)
    half = last(theirs()).to(torch.bfloat16)
    return {
        'timm': inference(theirs(), x),
        'timm, channels-last, compiled': without_gradients(torch.compile(last(theirs())), x),
        'mmdla': inference(ours(), x),
        'mmdla, optimized, not compiled': inference(quick(compile=False), x),
        'mmdla, optimized': inference(quick(), x),
        'timm, channels-last, bfloat16': channels_last_input(half, x),
        'mmdla, optimized, bfloat16': inference(quick(dtype=torch.bfloat16), x),
    }


def segmentors() -> tuple[Config, Config]:
    """The config of the segmentor; and of its backbone with a head of mmseg's, as timm has it."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = None
    fcn = Config(ConfigDict(cfg.to_dict()))
    fcn.model.backbone = dict(
        type='TIMMBackbone', model_name='dla34', features_only=True, pretrained=False
    )
    fcn.model.decode_head = dict(
        type='FCNHead', in_channels=512, in_index=-1, channels=128, num_classes=19
    )
    return cfg, fcn


def labels(model: nn.Module, x: Tensor) -> Run:
    """mmseg's prediction, without what it is wrapped in."""

    def run() -> object:
        with torch.no_grad():
            return [sample.pred_sem_seg.data for sample in model.predict(x)]

    return run


def segmentation(name: str, work: str, x: Tensor) -> dict[str, Run]:
    """What is timed for a segmentor: by name, the reference first."""
    cfg, beside = segmentors()
    first = 'mmdla'
    theirs = build_model(cfg).to(DEVICE)
    if name == 'FCNHead':
        first = 'TIMMBackbone'
        theirs = build_model(beside).to(DEVICE)
        beside.model.backbone = cfg.model.backbone
        cfg = beside

    def ours() -> nn.Module:
        return build_model(cfg).to(DEVICE)

    def recomputing() -> nn.Module:
        lean = copy.deepcopy(cfg)
        for part in (lean.model.backbone, lean.model.decode_head):
            if part.type != 'FCNHead':
                part.with_cp = 'norm'
        return build_model(lean).to(DEVICE)

    if work == 'training':
        runs = {first: training_step(theirs, x)}
        if name == 'FCNHead':
            runs['mmdla'] = training_step(ours(), x)
        return runs | {
            "mmdla, with_cp='norm'": training_step(recomputing(), x),
            'mmdla, channels-last': training_step(last(ours()), x),
            'mmdla, channels-last, compiled': training_step(torch.compile(last(ours())), x),
            'mmdla, channels-last, bfloat16': mixed(training_step(last(ours()), x)),
            'mmdla, channels-last, compiled, bfloat16': mixed(
                training_step(torch.compile(last(ours())), x)
            ),
        }
    quick = partial(optimize, ours().eval(), x, labels_only=True)
    return {
        first: labels(theirs.eval(), x),
        'mmdla, optimized, not compiled': labels(quick(compile=False), x),
        'mmdla, optimized': labels(quick(), x),
        'mmdla, optimized, bfloat16': labels(quick(dtype=torch.bfloat16), x),
    }


def draw(figures: list[dict], title: str, file: Path) -> None:
    """Bars of the ratios, one group a network."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(f['network'] for f in figures))
    figure = Figure(figsize=(8, 1 + 0.3 * len(figures) + 0.6 * len(networks)), layout='constrained')
    axes = figure.subplots(len(networks), 1, squeeze=False, sharex=True)
    for ax, network in zip(axes[:, 0], networks):
        rows = [f for f in figures if f['network'] == network]
        middle = [f['ratio'][0] for f in rows]
        colours = ['C1' if f['variant'].startswith(('timm', 'TIMM')) else 'C0' for f in rows]
        bars = ax.barh([f['variant'] for f in rows], middle, color=colours)
        ax.bar_label(bars, [f'{m:.2f}' for m in middle], padding=3)
        ax.invert_yaxis()
        ax.axvline(1, color='grey', linewidth=0.8)
        ax.set_title(network, loc='left', fontsize=10)
        ax.spines[['top', 'right']].set_visible(False)
    axes[-1, 0].set_xlabel('times as fast as the first')
    figure.suptitle(title, fontsize=9)
    figure.savefig(file, dpi=110)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--task', choices=['classification', 'segmentation'], default='classification')
    parser.add_argument('--mode', choices=['inference', 'training'], default='inference')
    parser.add_argument(
        '--archs', nargs='+', default=['34', '60', '102x'], choices=list(DLA.arch_settings)
    )
    parser.add_argument('--variants', nargs='+', help='only those whose names have one of these words')
    parser.add_argument('--shape', type=int, nargs=3, help='batch, height and width')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--out-dir', type=Path, help='folder for the table, the figures and a plot')
    args = parser.parse_args()
    args.shape = args.shape or SHAPES[args.task, args.mode]
    for name, value in (('shape', min(args.shape)), ('rounds', args.rounds)):
        if value < 1:
            parser.error(f'--{name} {value}: must be positive')
    if args.out_dir and is_nonempty(args.out_dir):
        parser.error(f'--out-dir {args.out_dir}: holds something already; name a new folder')
    return args


def main() -> None:
    args = parse_args()
    batch, height, width = args.shape
    x = torch.rand(batch, 3, height, width, device=DEVICE)
    build = classification if args.task == 'classification' else segmentation
    names = args.archs if args.task == 'classification' else ['IDA-up at stride 2', 'FCNHead']
    figures = []
    for name in names:
        torch._dynamo.reset()
        runs = build(name, args.mode, x)
        if args.variants:
            reference = next(iter(runs))
            runs = {
                variant: run
                for variant, run in runs.items()
                if variant == reference or any(word in variant for word in args.variants)
            }
        times = time_interleaved(list(runs.values()), track_iter_progress(range(args.rounds)))
        label = f'DLA {name}' if args.task == 'classification' else f'DLA 34, {name}'
        for variant, seconds in zip(runs, times):
            figures.append(
                dict(
                    network=label,
                    variant=variant,
                    seconds=seconds,
                    ratio=ratio(times[0], seconds),
                )
            )
    table = ['| network | variant | ms | times as fast | middle half |', '|---|---|---|---|---|']
    for f in figures:
        middle, low, high = f['ratio']
        table.append(
            f'| {f["network"]} | {f["variant"]} | {1e3 * statistics.median(f["seconds"]):.0f} | '
            f'{middle:.2f} | {low:.2f}-{high:.2f} |'
        )
    title = (
        f'{args.mode}, {batch}x3x{height}x{width}, {args.rounds} rounds; {device_name()}; '
        f'PyTorch {torch.__version__}'
    )
    print(f'\n\n{title}\n')
    print('\n'.join(table))
    if args.out_dir:
        args.out_dir.mkdir(parents=True, exist_ok=True)
        (args.out_dir / FILES[0]).write_text('\n'.join([title, '', *table, '']))
        (args.out_dir / FILES[1]).write_text(json.dumps(dict(title=title, figures=figures), indent=1))
        draw(figures, title, args.out_dir / FILES[2])
        print(f'\nWritten to {args.out_dir}: {", ".join(FILES)}')


if __name__ == '__main__':
    main()
