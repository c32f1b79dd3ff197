"""Draw what aggregates what: `python tools/visualization/draw_network.py CONFIG|ARCH --out PICTURE`.

Blocks, aggregation nodes, levels, strides and channels, as in the paper's Figure 3. PICTURE ends in
.svg, .png or .pdf.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmdla.analysis.aggregation_graph import draw, trace
from mmdla.engine.config import (
    add_cfg_options,
    add_picture_options,
    build_model,
    check_picture,
    read_config,
)
from mmdla.models import DLA
from mmdla.models.layers import FORMS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help=f'path of a config, or one of {", ".join(DLA.arch_settings)}')
    add_picture_options(parser)
    parser.add_argument(
        '--aggregation', choices=list(FORMS), help="form of Figure 2, in place of the network's own"
    )
    parser.add_argument('--title', help='default: the name of the config or architecture')
    parser.add_argument('--backbone', action='store_true', help='leave out what follows the backbone')
    add_cfg_options(parser)
    args = parser.parse_args()
    check_picture(parser, args)
    if args.config in DLA.arch_settings:
        if args.cfg_options:
            parser.error('--cfg-options: there is no config; give the path of one')
        form = args.aggregation or 'hda'
        model = DLA(args.config, aggregation=form)
        title = f'DLA-{args.config}' + (f', {form}' if args.aggregation else '')
    else:
        if not Path(args.config).is_file():
            parser.error(
                f'{args.config}: neither a config nor an architecture ({", ".join(DLA.arch_settings)})'
            )
        cfg = read_config(args)
        if args.aggregation:
            cfg.merge_from_dict({'model.backbone.aggregation': args.aggregation})
        for key in ('scales', 'size_divisor'):  # of one scale, and of an image as it is
            (cfg.model.get('test_cfg') or {}).pop(key, None)
        model = build_model(cfg, cfg.model.backbone if args.backbone else None)
        title = Path(args.config).stem
    try:
        graph = trace(model)
    except ValueError as error:
        parser.error(f'{args.config}: {error}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(graph, args.out, title if args.title is None else args.title)
    kinds = [v['kind'] for v in graph.nodes.values()]
    blocks, nodes = kinds.count('block'), kinds.count('node')
    print(f'{blocks} blocks, {nodes} nodes, {graph.number_of_edges()} edges: {args.out}')


if __name__ == '__main__':
    main()
