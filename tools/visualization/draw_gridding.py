"""Show the grids that dilation leaves in activation maps: `draw_gridding.py --out PICTURE`.

Sends three things through several networks and draws each one's last level side by side, with the share
of its energy that is a grid (mmdla/analysis/gridding.py):

- an impulse into the first dilated level: one cell, which shows what dilation alone makes of a point;
- an impulse in the image: one pixel;
- a picture.

Of impulses it is the change that they make. Prints the share after each level and draws it below the
maps. PICTURE ends in .png, .svg or .pdf.

Networks with random weights by name (--networks), trained ones of DLA or DRN by config and checkpoint
(--model), several by giving it several times.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.utils import track_iter_progress
from torch import Tensor

import mmdla  # noqa: F401
from mmdla.analysis.gridding import (
    MAPS,
    draw,
    first_dilated,
    gridding_energy,
    image_maps,
    impulse_maps,
    largest_dilation,
    white_noise_energy,
)
from mmdla.checkpoints import load_pretrained
from mmdla.engine.config import add_picture_options, build_model, check_picture, scope_of
from mmdla.io.images import read_image
from mmdla.models import DLA, DRN
from mmdla.models.backbones.levels import LevelBackbone
from mmdla.registry import check_library

DEFAULT = ['a_18', 'b_26', 'c_26', 'dla34']
NAMES = [*DRN.arch_settings, *(f'dla{arch}' for arch in DLA.arch_settings)]
# The mean and deviation of ImageNet's images, RGB, for networks without a preprocessor of their own.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
ROWS: dict[str, Callable[[LevelBackbone, Tensor], dict[int, Tensor]]] = {
    'impulse, dilated levels': lambda backbone, image: impulse_maps(
        backbone, torch.zeros_like(image), dilated=True
    ),
    'impulse, image': lambda backbone, image: impulse_maps(backbone, torch.zeros_like(image)),
    'picture': image_maps,
}


@dataclass
class Network:
    """One column.

    Attributes:
        name (str): Its title.
        backbone (LevelBackbone): In evaluation mode.
        image (Tensor): The picture as it takes it, (1, 3, H, W).
        seeds (list[int | None]): Of its random weights, in turn; None for trained ones.
        maps (dict): Of each row, the last level's map with the first seed.
        energies (dict): Of each row, by level, one of each seed.
    """

    name: str
    backbone: LevelBackbone
    image: Tensor
    seeds: list[int | None]
    maps: dict[str, Tensor] = field(default_factory=dict)
    energies: dict[str, dict[int, list[float]]] = field(default_factory=dict)

    def means(self, row: str) -> dict[int, float]:
        """The mean over the seeds, of each level."""
        return {i: statistics.mean(values) for i, values in self.energies[row].items()}

    def caption(self, row: str) -> str:
        """The last level's number, and its range over the seeds."""
        values = list(self.energies[row].values())[-1]
        text = f'{statistics.mean(values):.3f}'
        return text if len(values) == 1 else f'{text}  ({min(values):.3f} - {max(values):.3f})'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_picture_options(parser)
    parser.add_argument(
        '--networks',
        nargs='+',
        metavar='NAME',
        help=f'with random weights ({" ".join(DEFAULT)}, or none beside a --model): {", ".join(NAMES)}',
    )
    parser.add_argument(
        '--first-dilation',
        choices=['paper', 'released'],
        default='paper',
        help="that of DRN's --networks (paper: the families then differ by levels 7 and 8 alone)",
    )
    parser.add_argument(
        '--model',
        nargs=3,
        action='append',
        default=[],
        metavar=('TITLE', 'CONFIG', 'CHECKPOINT'),
        help='a trained network; can be given several times',
    )
    parser.add_argument('--image', type=Path, help='the picture (a generated one)')
    parser.add_argument('--size', type=int, default=320, help='sides of the image in pixels (320)')
    parser.add_argument(
        '--map',
        choices=list(MAPS),
        default='mean',
        help="what is drawn and measured of a level: its channels' mean magnitude, or the channel of "
        "the largest, as in the paper's figures (mean)",
    )
    parser.add_argument('--dilation', type=int, help="period of the grids (the networks' largest)")
    parser.add_argument('--seed', type=int, default=0, help='of random weights and picture (0)')
    parser.add_argument('--seeds', type=int, default=5, help='how many, from that on, to average (5)')
    parser.add_argument('--title', default='', help='of the drawing (none)')
    args = parser.parse_args()
    check_picture(parser, args)
    args.networks = args.networks or ([] if args.model else DEFAULT)
    for name in args.networks:
        if name not in NAMES:
            parser.error(f'--networks {name}: must be of {", ".join(NAMES)}')
    titles = [title(name) for name in args.networks] + [model[0] for model in args.model]
    twice = sorted({name for name in titles if titles.count(name) > 1})
    if twice:
        parser.error(f'{", ".join(twice)}: given twice; each needs a title of its own')
    for _, *files in args.model:
        for path in files:
            if '://' not in path and not Path(path).is_file():
                parser.error(f'--model: {path}: there is no such file')
    for name, least in (('size', 32), ('seeds', 1), ('seed', 0), ('dilation', 2)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name} {value}: must be at least {least}')
    return args


def title(name: str) -> str:
    """DRN-C-26 for c_26, DLA-34 for dla34."""
    if name.startswith('dla'):
        return f'DLA-{name[3:]}'
    return f'DRN-{name.upper().replace("_", "-")}'


def picture(args: argparse.Namespace) -> np.ndarray:
    """The picture, uint8, (size, size, 3), BGR: the file's middle square, or a generated thing.

    Raises:
        ValueError: If the file is no picture.
    """
    if args.image is None:
        check_library('mmpretrain', 'the generated picture (--image takes another)')
        from mmdla.datasets.demo_objects import ObjectPicture

        return ObjectPicture(args.seed, 'butterfly', args.size).image
    if not args.image.is_file():
        raise ValueError(f'--image {args.image}: there is no such file')
    image = read_image(args.image)
    side = min(image.shape[:2])
    y, x = ((s - side) // 2 for s in image.shape[:2])
    image = image[y : y + side, x : x + side]
    shrinks = side > args.size
    return cv2.resize(
        image, (args.size, args.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def random_network(name: str, image: np.ndarray, args: argparse.Namespace) -> Network:
    """A network by name; its weights come with each seed."""
    if name.startswith('dla'):
        backbone = DLA(name[3:], output_stride=8, out_indices=(5,))
    else:
        last = len(DRN.arch_settings[name]['depths'])
        backbone = DRN(name, out_indices=(last,), dilation_scheme=args.first_dilation)
    rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1).float()
    rgb = (rgb - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    seeds = list(range(args.seed, args.seed + args.seeds))
    return Network(title(name), backbone.eval(), rgb[None], seeds)


def trained_network(name: str, config: str, checkpoint: str, image: np.ndarray) -> Network:
    """The backbone of a config's model, with a checkpoint's weights.

    Raises:
        ValueError: If it is no DLA or DRN, or the checkpoint is another network's.
    """
    cfg = Config.fromfile(config)
    check_library(scope_of(cfg), config)
    if 'model' not in cfg:
        raise ValueError(f'{config}: must be a config with a model, and has none')
    if 'data_preprocessor' in cfg:  # which mmpretrain's runner gives the model
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = build_model(cfg).eval()
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, LevelBackbone):
        raise ValueError(f'{config}: its backbone must be a DLA or DRN, not {type(backbone).__name__}')
    load_pretrained(backbone, checkpoint)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return Network(name, backbone, model.data_preprocessor(dict(inputs=[pixels]))['inputs'], [None])


def run(network: Network, seed: int | None, period: int, args: argparse.Namespace) -> None:
    """Measure a network with one seed, and keep the first one's maps.

    Raises:
        ValueError: If the maps are too small or not finite.
    """
    if seed is not None:
        torch.manual_seed(seed)
        network.backbone.is_init = False
        network.backbone.init_weights()
    for row, respond in ROWS.items():
        maps = {i: MAPS[args.map](y) for i, y in respond(network.backbone, network.image).items()}
        energies = network.energies.setdefault(row, {i: [] for i in maps})
        for i, y in maps.items():
            try:
                energies[i].append(gridding_energy(y, period))
            except ValueError as error:
                raise ValueError(f'{network.name}, level {i}, --size {args.size}: {error}') from error
        network.maps.setdefault(row, list(maps.values())[-1])


def table(networks: list[Network]) -> str:
    """Markdown: a row for each network and thing, a column for each level."""
    numbers = sorted({i for n in networks for levels in n.energies.values() for i in levels})
    heads = ['Input', 'Network', *(f'Level {i}' for i in numbers)]
    lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    for row in ROWS:
        for network in networks:
            means = network.means(row)
            cells = [f'{means[i]:.3f}' if i in means else '' for i in numbers]
            lines.append(f'| {" | ".join([row, network.name, *cells])} |')
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel('WARNING')  # init_weights tells of each parameter
    # Deep networks with random weights may fade to numbers so small that CPUs take longer over them.
    torch.set_flush_denormal(True)
    try:
        image = picture(args)
        networks = [random_network(name, image, args) for name in args.networks]
        networks += [trained_network(*model, image) for model in args.model]
        for network in networks:
            try:
                first_dilated(network.backbone)
            except ValueError as error:
                raise ValueError(f'{network.name}: {error}') from error
        period = args.dilation or max(largest_dilation(network.backbone) for network in networks)
        jobs = [(network, seed) for network in networks for seed in network.seeds]
        for network, seed in track_iter_progress(jobs):
            run(network, seed, period, args)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f'draw_gridding: {error}')

    print(f'\n\n{table(networks)}\n')
    random = (
        f"; random weights (DRN's with the {args.first_dilation}'s first dilations), mean of seeds "
        f'{args.seed} to {args.seed + args.seeds - 1}'
    ).replace("released's", 'released')
    print(
        f'Share of the energy in grids of period {period} (white noise: '
        f'{white_noise_energy(period):.3f}), {args.map} map of each level, image {args.size} x '
        f'{args.size}{random if args.networks else ""}.'
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    main_row = next(iter(ROWS))
    draw(
        {row: {n.name: n.maps[row] for n in networks} for row in ROWS},
        {row: {n.name: n.caption(row) for n in networks} for row in ROWS},
        {n.name: list(n.means(main_row).values()) for n in networks},
        f'gridding after each level: {main_row}',
        args.out,
        args.title,
    )
    print(f'Written: {args.out}')


if __name__ == '__main__':
    main()
