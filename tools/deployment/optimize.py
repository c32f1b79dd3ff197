"""What optimizing a trained network changes: speed, metrics, labels, on the config's test data.

`python tools/deployment/optimize.py CONFIG CHECKPOINT [--dtype bfloat16]`

Model and optimized model take turns on each batch. A batch that is the first of its size is not timed:
there the compiler works. The margin of a pixel (of an image, when classifying) is by how much the
model's first class leads the second, in logits (in probabilities); what a lower precision changes has
small ones. In Python the optimized model is `mmdla.deploy.optimize(model, example, ...)`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time

import torch
from mmengine.runner import Runner
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

import mmdla  # noqa: F401
from mmdla.analysis.timing import ratio, timed
from mmdla.deploy import optimize
from mmdla.engine.config import add_arguments, load_config
from mmdla.engine.platform import adapt_to_platform, device_name
from mmdla.engine.runner import build_runner

QUANTILES = (0.01, 0.05, 0.5, 0.95, 1.0)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or address of the checkpoint')
    parser.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    parser.add_argument('--no-compile', action='store_true', help='without torch.compile')
    parser.add_argument('--labels-only', action='store_true', help='predict label maps without logits')
    parser.add_argument('--num-batches', type=int, help='number of batches (all); metrics are of these')
    add_arguments(parser)
    args = parser.parse_args()
    if args.num_batches is not None and args.num_batches < 1:
        parser.error(f'--num-batches {args.num_batches}: must be positive')
    if args.launcher != 'none':
        parser.error(f'--launcher {args.launcher}: one process is compared; leave it out')
    return args


def labels_of(sample) -> Tensor:
    """The predicted label map, or label."""
    return sample.pred_sem_seg.data if 'pred_sem_seg' in sample else sample.pred_label


def margins_of(sample) -> Tensor:
    """By how much the first class leads the second."""
    scores = sample.seg_logits.data if 'seg_logits' in sample else sample.pred_score
    if len(scores) == 1:  # a probability
        return (2 * scores - 1).abs()
    first, second = scores.topk(2, dim=0).values
    return first - second


class Turns:
    """Runs a model and its optimized copy, and keeps their times and predictions apart."""

    def __init__(self, models: list[nn.Module]):
        self.models = models
        self.seconds: list[list[float]] = [[] for _ in models]
        self.compiling = 0.0
        self.sizes: set[tuple[int, ...]] = set()
        self.equal = self.number = 0
        self.margins: list[Tensor] = []
        self.differing: list[Tensor] = []

    def take(self, data: dict) -> list[list]:
        """Predictions of both."""
        size = tuple(data['inputs'].shape)
        outs: list[list] = []
        for model, seconds in zip(self.models, self.seconds):
            samples = copy.deepcopy(data['data_samples'])

            def predict(model=model, samples=samples) -> None:
                with torch.no_grad():
                    outs.append(model(data['inputs'], samples, mode='predict'))

            taken = timed(predict)
            if size in self.sizes:
                seconds.append(taken)
            elif model is self.models[1]:
                self.compiling += taken
        self.sizes.add(size)
        for a, b in zip(*outs):
            same, margins = (labels_of(a) == labels_of(b)).flatten(), margins_of(a).flatten()
            self.equal += int(same.sum())
            self.number += same.numel()
            # Enough for quantiles; whole data sets of pixels are too many to sort.
            self.margins.append(margins[:: max(1, margins.numel() // 10_000)].cpu())
            self.differing.append(margins[~same].cpu())
        return outs

    def report(self) -> str:
        """What came out, in sentences."""
        lines = []
        if self.seconds[0]:
            plain, quick = (statistics.median(s) for s in self.seconds)
            middle, low, high = ratio(*self.seconds)
            lines.append(
                f'Time of a batch: {1e3 * plain:.1f} ms, optimized {1e3 * quick:.1f} ms: {middle:.2f} '
                f'times as fast ({low:.2f}-{high:.2f} in the middle half of {len(self.seconds[0])}); '
                f'optimizing took {self.compiling:.0f} s'
            )
        else:
            lines.append('Times: no size came twice; the first of each goes to the compiler')
        different = torch.cat(self.differing)
        lines.append(
            f'Labels: {self.equal} of {self.number} are the same '
            f'({100 * self.equal / self.number:.4f}%)'
        )
        for name, margins in (('all', torch.cat(self.margins)), ('those that differ', different)):
            if len(margins):
                margins = margins[:: len(margins) // 1_000_000 + 1].double()
                found = torch.quantile(margins, torch.tensor(QUANTILES, dtype=torch.float64))
                shares = ', '.join(f'{100 * q:.0f}% {v:.4g}' for q, v in zip(QUANTILES, found))
                lines.append(f'Margins of {name}, quantiles: {shares}')
        return '\n'.join(lines)


def load(args: argparse.Namespace) -> Runner:
    """The runner of the test, with the checkpoint loaded."""
    cfg = load_config(args)
    adapt_to_platform(cfg)
    runner = build_runner(cfg, train=False)
    runner.load_or_resume()
    return runner


def main() -> None:
    args = parse_args()
    runner = load(args)
    model = runner.model.eval()
    loader = runner.test_dataloader
    evaluators = [runner.build_evaluator(copy.deepcopy(runner.cfg.test_evaluator)) for _ in range(2)]
    for evaluator in evaluators:
        evaluator.dataset_meta = loader.dataset.metainfo
    number = min(len(loader), args.num_batches or len(loader))
    turns = None
    seen = 0
    batches = iter(loader)
    start = time.perf_counter()
    for _ in track_iter_progress(range(number), file=sys.stderr):
        batch = next(batches)
        data = model.data_preprocessor(batch, False)
        if turns is None:
            before = time.perf_counter()
            quick = optimize(
                model,
                data['inputs'],
                getattr(torch, args.dtype),
                compile=not args.no_compile,
                labels_only=args.labels_only,
            )
            turns = Turns([model, quick])
            turns.compiling = time.perf_counter() - before
        for evaluator, samples in zip(evaluators, turns.take(data)):
            evaluator.process(data_samples=samples, data_batch=batch)
        seen += len(data['inputs'])
    del batches
    results = [evaluator.evaluate(seen) for evaluator in evaluators]
    print(
        f'\n\n{device_name()}; PyTorch {torch.__version__}; {args.dtype}, {seen} images in '
        f'{time.perf_counter() - start:.0f} s; largest difference of the outputs on the first batch: '
        f'{quick.error:.2g} of the largest output'
    )
    print(turns.report())
    print('\n| metric | model | optimized |\n|---|---|---|')
    for name, value in results[0].items():
        print(f'| {name} | {value:.4f} | {results[1][name]:.4f} |')


if __name__ == '__main__':
    main()
