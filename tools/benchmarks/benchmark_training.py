"""Time and memory of a training step, and what each option does to it.

`python tools/benchmarks/benchmark_training.py CONFIG [--options NAME ...]`

The variants of the config's model take turns in this process, so that what else the machine does meets
all. A step is forward and backward from the mean square of what the model returns, without the loss.
The ratio is the time to that of the first option, 0.90 being 10% less, with the range of its middle
half over the rounds. Saved is what is kept for backward, peak the most that is there at once; both are
tensors without parameters and buffers, the peak with gradients, and neither is known of a compiled
model.

Options: default, norm (with_cp='norm' in backbone, neck and head), with_cp (with_cp=True),
channels-last, compile, amp, all (the last three).
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch
from mmengine.config import Config
from mmengine.utils import track_iter_progress
from torch import nn

import mmdla  # noqa: F401
from mmdla.analysis.complexity import blank_images
from mmdla.analysis.memory import peak_bytes, saved_bytes
from mmdla.analysis.timing import ratio, time_interleaved, training_step
from mmdla.engine.config import add_cfg_options, build_model, read_config
from mmdla.engine.platform import device_name

OPTIONS = ('default', 'norm', 'with_cp', 'channels-last', 'compile', 'amp', 'all')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
MIB = 2**20


def build(cfg: Config, option: str) -> nn.Module:
    """The model with an option."""
    cfg = copy.deepcopy(cfg)
    if option in ('norm', 'with_cp'):
        for name in ('backbone', 'neck', 'decode_head'):
            part = cfg.model.get(name)
            if part is not None and part.type.removeprefix('mmdla.') in (
                *('DLA', 'DRN', 'IDAUp', 'AFAUp', 'IDAUpHead', 'BoundaryHead'),
            ):
                part.with_cp = 'norm' if option == 'norm' else True
    model = build_model(cfg).to(DEVICE)
    return model.to(memory_format=torch.channels_last) if option in ('channels-last', 'all') else model


def within(option: str, run: Callable) -> Callable:
    """The call in the context of an option."""

    def call():
        with ExitStack() as stack:
            if option in ('amp', 'all'):
                kind = torch.bfloat16 if DEVICE == 'cpu' else torch.float16
                stack.enter_context(torch.autocast(DEVICE, dtype=kind))
            return run()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--options', nargs='+', default=['default', 'norm'], choices=OPTIONS)
    parser.add_argument('--shape', type=int, nargs=2, default=[512, 1024], help='image (512 1024)')
    parser.add_argument('--batch-size', type=int, default=1, help='(1)')
    parser.add_argument('--rounds', type=int, default=9, help='(9)')
    add_cfg_options(parser)
    args = parser.parse_args()
    for name, value in (
        ('shape', min(args.shape)),
        ('batch-size', args.batch_size),
        ('rounds', args.rounds),
    ):
        if value < 1:
            parser.error(f'--{name} {value}: must be positive')
    cfg = read_config(args)
    runs, memory = [], []
    for option in args.options:
        model = build(cfg, option)
        x = torch.rand_like(blank_images(model, args.batch_size, *args.shape))
        figures = []
        for count in (saved_bytes, peak_bytes) if option not in ('compile', 'all') else ():
            found = within(option, partial(count, model, x))()
            figures.append(f'{found / MIB:.0f}')
        memory.append(figures or ['', ''])
        model = torch.compile(model) if option in ('compile', 'all') else model
        runs.append(within(option, training_step(model, x)))
    times = time_interleaved(runs, track_iter_progress(range(args.rounds)))

    shape = 'x'.join(map(str, (args.batch_size, x.shape[1], *args.shape)))
    print(f'\n\n{device_name()}; PyTorch {torch.__version__}; {shape}, {args.rounds} rounds\n')
    print('| option | step, ms | to the first | middle half | saved, MiB | peak, MiB |')
    print('|---|---|---|---|---|---|')
    for option, seconds, (saved, peak) in zip(args.options, times, memory):
        middle, low, high = ratio(seconds, times[0])
        ms = 1e3 * statistics.median(seconds)
        print(f'| {option} | {ms:.0f} | {middle:.3f} | {low:.3f}-{high:.3f} | {saved} | {peak} |')


if __name__ == '__main__':
    main()
