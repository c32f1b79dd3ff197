"""Which classes a classifier takes for which: `confusion_matrix.py CONFIG CHECKPOINT`.

Runs the test data through the network and writes `confusion_matrix.csv`, a row a true class, and
`confusion_matrix.png`; prints each class's accuracy and the most frequent confusions.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import torch

import mmdla  # noqa: F401
from mmdla.engine.config import add_arguments, load_config, scope_of
from mmdla.engine.platform import adapt_to_platform
from mmdla.engine.runner import build_runner

FILES = ('confusion_matrix.csv', 'confusion_matrix.png')
MANY = 30  # classes whose numbers and names are still read in a picture


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config of mmpretrain')
    parser.add_argument('checkpoint', help='path or address')
    parser.add_argument('--out-dir', type=Path, help="folder to write to (the run's, in the work dir)")
    parser.add_argument('--top-confusions', type=int, default=10, help='how many to print (10)')
    add_arguments(parser)
    return parser.parse_args()


def report(matrix: torch.Tensor, classes: list[str], number: int) -> str:
    """Accuracy of each class, and the pairs that are confused most."""
    width = max(map(len, classes))
    lines = ['Accuracy of each class, %:']
    for name, row, right in zip(classes, matrix, matrix.diagonal()):
        share = f'{100 * right / row.sum():6.2f}' if row.sum() else '     -'
        lines.append(f'  {name:{width}} {share}  ({right} of {row.sum()})')
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    order = wrong.argsort(descending=True, stable=True)[:number]
    lines.append('Most frequent confusions:')
    for index in order[wrong[order] > 0]:
        true, taken = divmod(int(index), len(classes))
        lines.append(f'  {classes[true]} taken for {classes[taken]}: {wrong[index]}')
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if scope_of(cfg) != 'mmpretrain':
        sys.exit(f'confusion_matrix: {args.config} is not a config of an mmpretrain classifier')
    there = [name for name in FILES if args.out_dir and (args.out_dir / name).exists()]
    if there:
        sys.exit(
            f'confusion_matrix: {args.out_dir} holds {" and ".join(there)}; choose another --out-dir'
        )
    cfg.test_evaluator = dict(type='ConfusionMatrix')
    adapt_to_platform(cfg)
    runner = build_runner(cfg, train=False)
    matrix = runner.test()['confusion_matrix/result']
    if runner.rank > 0:
        return
    out = args.out_dir or Path(runner.log_dir)
    names = runner.test_dataloader.dataset.metainfo.get('classes')
    classes = list(names or map(str, range(len(matrix))))
    if len(classes) != len(matrix):
        sys.exit(
            f'confusion_matrix: the network has {len(matrix)} outputs and the data {len(classes)} '
            'classes: they must be as many'
        )

    import matplotlib

    matplotlib.use('Agg')
    from mmpretrain.evaluation import ConfusionMatrix

    out.mkdir(parents=True, exist_ok=True)
    with (out / 'confusion_matrix.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['true', *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix.tolist()))
    few = len(classes) <= MANY
    figure = ConfusionMatrix.plot(
        matrix, include_values=few, classes=classes if few else None, show=False
    )
    figure.savefig(out / 'confusion_matrix.png', bbox_inches='tight')
    print(report(matrix, classes, args.top_confusions))
    print(f'Written: {out / "confusion_matrix.csv"}, {out / "confusion_matrix.png"}')


if __name__ == '__main__':
    main()
