"""Draw what an AFA-DLA attends to: `draw_attention.py CONFIG CHECKPOINT IMAGE --out PICTURE`.

The image, how much each fused level counts at each pixel, the spatial attention of the last node of
each step of the up-network, and how much each scale counts where the config tests at several. PICTURE
ends in .svg, .png or .pdf.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from mmdla.checkpoints import load_model, read_checkpoint
from mmdla.engine.config import (
    add_cfg_options,
    add_picture_options,
    build_model,
    check_picture,
    read_config,
)
from mmdla.io.images import read_image
from mmdla.visualization.attention import attention_maps, draw_attention


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of a config with the neck AFAUp')
    parser.add_argument('checkpoint', help='path or address of its checkpoint')
    parser.add_argument('image', type=Path, help='image to look at')
    add_picture_options(parser)
    parser.add_argument('--title', help='default: the name of the config')
    add_cfg_options(parser)
    args = parser.parse_args()
    check_picture(parser, args)
    try:
        image = read_image(args.image)
        model = build_model(read_config(args)).eval()
        load_model(model, read_checkpoint(args.checkpoint), f'checkpoint {args.checkpoint!r}')
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        print(f'{image.shape[1]}x{image.shape[0]} pixels go through the network', flush=True)
        rows = attention_maps(model, model.data_preprocessor(dict(inputs=[pixels]))['inputs'])
    except (OSError, ValueError) as error:
        sys.exit(f'draw_attention: {error}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw_attention(image, rows, args.out, Path(args.config).stem if args.title is None else args.title)
    for row, maps in rows.items():
        print(f'{row}: ' + '; '.join(f'{name}, mean {m.mean():.3f}' for name, m in maps.items()))
    print(f'Written: {args.out}')


if __name__ == '__main__':
    main()
