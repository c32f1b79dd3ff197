"""Where the time and the bytes of a segmentor go: `python tools/benchmarks/roofline.py [CONFIG]`

Each part (stem, levels, aggregation steps, classifier) runs alone on the maps that it gets within the
network: as it is, optimized (see `mmdla.deploy.optimize`) and optimized in bfloat16, in turn. Beside it
stands the least time that this machine's roofline allows for its multiply-adds by the definition of
convolution and for reading its input and weights and writing its output once: the larger of operations
over the rate of a matrix product and of bytes over the rate of a copy, both measured here. Winograd's
convolutions need fewer operations and may go below it. Saved is what a training step stores for
backward: by default, and with `with_cp='norm'`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from mmengine.utils import track_iter_progress
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mmdla  # noqa: F401
from mmdla.analysis.complexity import blank_images
from mmdla.analysis.memory import saved_bytes
from mmdla.analysis.timing import inference, time_interleaved, timed
from mmdla.deploy import optimize
from mmdla.engine.config import add_cfg_options, build_model, read_config
from mmdla.engine.platform import device_name
from mmdla.models.layers import recompute

CONFIG = Path(__file__).resolve().parents[2] / 'configs/dla34_cityscapes.py'
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
MIB = 2**20


def parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What runs one after the other in backbone and head."""
    yield from model.backbone.named_children()
    head = model.decode_head
    yield from (head.dla_up if hasattr(head, 'dla_up') else head).named_children()
    if hasattr(head, 'dla_up'):
        yield 'conv_seg', head.conv_seg


def inputs_of(model: nn.Module, x: Tensor) -> dict[str, tuple[nn.Module, Tensor | list[Tensor]]]:
    """The parts that run, with what they get."""
    found: dict[str, tuple[nn.Module, Tensor | list[Tensor]]] = {}

    def note(name: str, part: nn.Module, args: tuple) -> None:
        found.setdefault(name, (part, args[0]))

    hooks = [part.register_forward_pre_hook(partial(note, name)) for name, part in parts(model)]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


def rates() -> tuple[float, float, float]:
    """Operations a second of matrix products in float32 and bfloat16, bytes a second of a copy."""
    speeds = []
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.rand(2048, 2048, device=DEVICE).to(dtype)
        speeds.append(2 * 2048**3 / min(timed(lambda a=a: a @ a) for _ in range(9)))
    source = torch.rand(64 * MIB, device=DEVICE)
    target = torch.empty_like(source)
    copying = min(timed(lambda: target.copy_(source)) for _ in range(9))
    return *speeds, 2 * source.nbytes / copying


class Part(nn.Module):
    """A part by itself, which recomputes in backward what ``with_cp='norm'`` recomputes."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, maps: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        return recompute(self.part, maps, selective=True)


def tensors(maps: Tensor | list | tuple) -> list[Tensor]:
    """The tensors of one map or of several."""
    return [maps] if isinstance(maps, Tensor) else list(maps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='?', default=str(CONFIG), help='path of the config')
    parser.add_argument('--shape', type=int, nargs=3, default=[1, 512, 1024], metavar=('N', 'H', 'W'))
    parser.add_argument('--rounds', type=int, default=9)
    add_cfg_options(parser)
    args = parser.parse_args()
    for name, value in (('shape', min(args.shape)), ('rounds', args.rounds)):
        if value < 1:
            parser.error(f'--{name} {value}: must be positive')
    cfg = read_config(args)
    cfg.model.backbone.init_cfg = None
    model = build_model(cfg).to(DEVICE)
    x = torch.rand_like(blank_images(model, *args.shape))
    single, half, bandwidth = rates()
    table = []
    for name, (part, maps) in track_iter_progress(list(inputs_of(model, x).items())):
        torch._dynamo.reset()
        part.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outs = part(maps)
        read = [*tensors(maps), *tensors(outs), *part.parameters()]
        moved = sum(t.numel() * 4 for t in read)
        floor = max(counter.get_total_flops() / single, moved / bandwidth)
        quick, low = optimize(part, maps), optimize(part, maps, torch.bfloat16)
        times = time_interleaved([inference(m, maps) for m in (part, quick, low)], range(args.rounds))
        stored = saved_bytes(part, maps)
        lean = saved_bytes(Part(part), maps) if name != 'conv_seg' else stored
        table.append(
            [counter.get_total_flops() / 1e9, moved / MIB, 1e3 * floor]
            + [1e3 * statistics.median(t) for t in times]
            + [stored / MIB, lean / MIB]
        )
        table[-1] = [name, *table[-1]]
    table.append(['all', *(sum(row[i] for row in table) for i in range(1, 9))])
    shape = 'x'.join(map(str, x.shape))
    print(
        f'\n\n{device_name()}; PyTorch {torch.__version__}; {shape}, {args.rounds} rounds\n'
        f'Matrix products: {single / 1e9:.0f} GFLOP/s in float32, {half / 1e9:.0f} in bfloat16; '
        f'copies: {bandwidth / 1e9:.1f} GB/s\n'
    )
    print(
        '| part | GFLOP | MiB moved | roofline, ms | as it is, ms | optimized, ms | bfloat16, ms | '
        "saved, MiB | with_cp='norm', MiB |"
    )
    print('|---|---|---|---|---|---|---|---|---|')
    for name, flops, moved, *others in table:
        print(
            f'| {name} | {flops:.2f} | {moved:.1f} | ' + ' | '.join(f'{v:.1f}' for v in others) + ' |'
        )


if __name__ == '__main__':
    main()
