"""Speed and activation memory beside timm: `python tools/analysis_tools/benchmark.py`.

Both networks run in this process, in turn, so that what else the machine does meets both. Times are
medians; the ratio is timm's time over ours, 1.10 meaning ours is 10% faster, with the range of its
middle half over the rounds. Saved bytes are what autograd keeps for backward in one forward pass:
storages counted once, parameters left out.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from mmdla.engine.setup import device_name
from mmdla.models import DLA
from mmdla.utils.memory import saved_bytes
from mmdla.utils.timing import in_turn, inference, ratio, training_step


class Classifier(nn.Module):
    """DLA with the released classifier: average pooling and a linear layer."""

    def __init__(self, arch: str, **kwargs):
        super().__init__()
        self.backbone = DLA(arch, out_indices=(5,), **kwargs)
        self.fc = nn.Linear(self.backbone.channels[-1], 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--archs', nargs='+', default=['34', '60', '102'], choices=list(DLA.arch_settings)
    )
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--size', type=int, default=224, help='height and width of the images')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--no-training', action='store_true', help='leave the training step out')
    args = parser.parse_args()
    import timm

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    x = torch.rand(args.batch, 3, args.size, args.size, device=device)
    speed = [
        '| network | work | ours, ms | timm, ms | ratio | middle half |',
        '|---|---|---|---|---|---|',
    ]
    memory = [
        '| network | timm, MiB | ours, MiB | ratio | with_cp, MiB | ratio |',
        '|---|---|---|---|---|---|',
    ]
    for arch in track_iter_progress(args.archs):
        ours = Classifier(arch).to(device)
        ours.backbone.init_weights()
        lean = Classifier(arch, with_cp=True).to(device)
        theirs = timm.create_model(f'dla{arch}').to(device)
        works = {'inference': inference} | ({} if args.no_training else {'training': training_step})
        for name, work in works.items():
            mine, other = in_turn([work(ours, x), work(theirs, x)], range(args.rounds))
            middle, low, high = ratio(other, mine)
            speed.append(
                f'| DLA {arch} | {name} | {1e3 * statistics.median(mine):.1f} | '
                f'{1e3 * statistics.median(other):.1f} | {middle:.3f} | {low:.3f}-{high:.3f} |'
            )
        base, full, small = (saved_bytes(m, x) / 2**20 for m in (theirs, ours, lean))
        memory.append(
            f'| DLA {arch} | {base:.1f} | {full:.1f} | {full / base:.3f} | {small:.1f} | '
            f'{small / base:.3f} |'
        )
    print(f'\n\n{device_name()}; PyTorch {torch.__version__}, timm {timm.__version__}')
    print(f'{args.batch}x3x{args.size}x{args.size}, float32, {args.rounds} rounds\n')
    print('\n'.join(speed))
    print('\nBytes saved for backward; ratios to timm:\n')
    print('\n'.join(memory))


if __name__ == '__main__':
    main()
