"""Traces the aggregation graph of a network in a forward pass, and draws it.

The graph has a vertex for each convolutional level, block and node, and one for the image. An edge
means that the output of one is an input of another, possibly after pooling, projection or upsampling.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..models import DLA, AFAUp, AggregatedStages
from ..models.layers import IDA, AggregationTree, Chain, ReentrantTree, ShallowSkips
from .complexity import blank_images

IMAGE = 'image'


def units(model: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Name, kind (``'conv'``, ``'block'`` or ``'node'``) and module of each vertex."""
    for name, module in model.named_modules():
        parts: dict[str, str] = {}
        if isinstance(module, DLA):
            # Levels past the last of `out_indices` do not exist.
            names = ['base_layer', 'level0', 'level1']
            parts = {n: 'conv' for n in names if hasattr(module, n)}
        elif isinstance(module, AggregatedStages):
            parts = dict(stem='conv')
        elif isinstance(module, Chain):
            parts = {f'blocks.{i}': 'block' for i in range(len(module.blocks))}
        elif isinstance(module, ReentrantTree):
            if module.depth == 1:
                parts = dict(tree1='block', tree2='block')
            if hasattr(module, 'root'):
                parts['root'] = 'node'
        elif isinstance(module, AggregationTree):
            parts = dict(root='node') if hasattr(module, 'root') else {}
        elif isinstance(module, AFAUp):
            parts = dict(fusion='node')
        elif isinstance(module, IDA | ShallowSkips):
            parts = {n: 'node' for n, _ in module.named_children() if re.fullmatch(r'node_\d+', n)}
        for part, kind in parts.items():
            yield f'{name}.{part}'.lstrip('.'), kind, module.get_submodule(part)


def tensors(tree: object) -> list[Tensor]:
    """The tensors in a nest of containers."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [t for child in tree for t in tensors(child)] if isinstance(tree, list | tuple) else []


class _Origins(TorchFunctionMode):
    """Records from which units a tensor was computed, through all operations in between."""

    def __init__(self) -> None:
        super().__init__()
        self.origins: dict[int, set[str]] = {}
        self.alive: list[Tensor] = []  # an id may only be used again once its tensor is gone
        self.inside = 0

    def of(self, tree: object) -> set[str]:
        """The units that the tensors of a nest of containers come from."""
        return set().union(*(self.origins.get(id(t), set()) for t in tensors(tree)))

    def set(self, tree: object, origins: set[str]) -> None:
        """Record which units the tensors of a nest of containers come from."""
        for tensor in tensors(tree):
            self.origins[id(tensor)] = origins
            self.alive.append(tensor)

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.inside:
            origins = self.of([args, kwargs])
            if origins:
                self.set(out, origins)
        return out


def trace(model: nn.Module, size: int = 64) -> nx.DiGraph:
    """Graph of a network.

    Args:
        model (nn.Module): With a :class:`~mmdla.models.DLA` or
            :class:`~mmdla.models.AggregatedStages`, and whatever follows it. Put into evaluation
            mode.
        size (int): Height and width of the image to run; a multiple, above 1, of the largest stride.
            Default: 64.

    Returns:
        nx.DiGraph: Vertices in the order of computation, with the attributes ``kind`` (``'image'``,
        ``'conv'``, ``'block'`` or ``'node'``), ``group`` (``'level 3'``, ``'IDA-up'`` ...),
        ``channels`` and ``stride``.

    Raises:
        ValueError: If the model has no vertices, or ``size`` does not fit its strides.
    """
    graph = nx.DiGraph()
    origins = _Origins()
    taken: dict[str, set[str]] = {}
    handles = []

    def watch(name: str, kind: str, module: nn.Module) -> None:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            taken[name] = origins.of([args, kwargs])
            origins.inside += 1

        def after(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            origins.inside -= 1
            if origins.inside:  # a unit within a unit is not a vertex
                return
            _, channels, height, _ = tensors(out)[-1].shape
            if size % height or height < 2:
                raise ValueError(f'size={size}: must be a multiple, above 1, of every stride')
            vertex = dict(kind=kind, group=group_of(name), channels=channels, stride=size // height)
            graph.add_node(name, **vertex)
            graph.add_edges_from((origin, name) for origin in sorted(taken[name]))
            origins.set(out, {name})

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))

    for unit in units(model):
        watch(*unit)
    if not handles:
        raise ValueError(f'{type(model).__name__} has neither a DLA nor aggregated stages to draw')
    image = blank_images(model, 1, size, size)
    graph.add_node(IMAGE, kind='image', group='image', channels=image.shape[1], stride=1)
    origins.set(image, {IMAGE})
    model.eval()
    try:
        with torch.no_grad(), origins:
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return graph


def group_of(name: str) -> str:
    """The level, or the part of the network, that a vertex is drawn in."""
    level = re.search(r'\blevel(\d)\b', name)
    if level:
        return f'level {level[1]}'
    if 'base_layer' in name or name.endswith('stem'):
        return 'stem'
    if name.endswith('fusion'):
        return 'fusion'
    return 'stages' if 'stages' in name else 'IDA-up'


def layout(graph: nx.DiGraph) -> dict[str, tuple[float, float]]:
    """Positions of the vertices: blocks in a row, each node above its inputs, as in Figure 3."""
    position: dict[str, tuple[float, float]] = {}
    column, group = 0.0, None
    for name, vertex in graph.nodes.items():
        joined = [p for p in graph.predecessors(name) if graph.nodes[p]['group'] == vertex['group']]
        if vertex['group'] != group:
            column, group = column + (0.7 if group else 0), vertex['group']
        if vertex['kind'] == 'node':
            height = 1 + max((position[p][1] for p in joined), default=0)
            right = max((position[p][0] for p in joined), default=column - 0.5)
            # To the right of its last input, unless another node is there already.
            while any(abs(x - right - 0.5) < 0.3 and y == height for x, y in position.values()):
                right += 0.5
            position[name] = (right + 0.5, height)
            column = max(column, right + 1)
        else:
            position[name] = (column, 0.0)
            column += 1
    return position


STYLE = dict(
    image=('s', '#ffffff', 'image'),
    conv=('s', '#d9d9d9', 'convolutions'),
    block=('s', '#9ecae1', 'block'),
    node=('o', '#74c476', 'aggregation node'),
)


def draw(graph: nx.DiGraph, path: str | os.PathLike, title: str = '') -> None:
    """Draw a graph as the paper's Figure 3 does.

    Args:
        graph (nx.DiGraph): Of :func:`trace`.
        path (str | PathLike): Picture to write; its suffix is the format: ``.svg``, ``.png``, ``.pdf``.
        title (str): Title. Default: ``''``, no title.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyBboxPatch

    position = layout(graph)
    xs, ys = zip(*position.values())
    figure = Figure(
        figsize=(0.42 * (max(xs) - min(xs)) + 1.2, 0.5 * max(ys) + 2.2), layout='constrained'
    )
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(title)
    for group in dict.fromkeys(v['group'] for v in graph.nodes.values()):
        names = [n for n, v in graph.nodes.items() if v['group'] == group]
        if group == 'image':
            continue
        left, right = (f(position[n][0] for n in names) for f in (min, max))
        top = max(position[n][1] for n in names)
        box = FancyBboxPatch(
            (left - 0.35, -0.4), right - left + 0.7, top + 0.8,
            boxstyle='round,pad=0.05', facecolor='#f7f7f7', edgecolor='#cccccc', zorder=0,
        )  # fmt: skip
        axes.add_patch(box)
        strides, channels = (
            ' to '.join(dict.fromkeys(str(graph.nodes[n][key]) for n in (names[0], names[-1])))
            for key in ('stride', 'channels')
        )
        text = f'{group}\nstride {strides}\n{channels} ch.'
        axes.text((left + right) / 2, -0.6, text, ha='center', va='top', fontsize=7)
    for kind, (shape, colour, _) in STYLE.items():
        names = [n for n, v in graph.nodes.items() if v['kind'] == kind]
        vertices = nx.draw_networkx_nodes(
            graph, position, names, node_size=130, node_shape=shape, node_color=colour,
            edgecolors='#555555', linewidths=0.8, ax=axes,
        )  # fmt: skip
        vertices.set_gid(f'{kind}s')
    for edges, colour, bend in _edges(graph):
        nx.draw_networkx_edges(
            graph, position, edges, node_size=130, arrowsize=7, edge_color=colour, ax=axes,
            connectionstyle=f'arc3,rad={bend}',
        )  # fmt: skip
    shown = {v['kind'] for v in graph.nodes.values()}
    marker = partial(Line2D, [], [], color='none', markeredgecolor='#555555')
    legend = [
        marker(marker=shape, markerfacecolor=colour, label=label)
        for kind, (shape, colour, label) in STYLE.items()
        if kind in shown
    ]
    legend += [Line2D([], [], color=c, label=label) for c, label in COLOURS.values()]
    axes.legend(handles=legend, loc='upper left', fontsize=7, frameon=False, ncols=len(legend))
    axes.set_ylim(-1.6, max(ys) + 1.6)
    # Without the date, so that the file is reproducible.
    metadata = {'Date': None} if Path(path).suffix == '.svg' else None
    with rc_context({'svg.hashsalt': 'mmdla'}):
        figure.savefig(path, dpi=200, metadata=metadata)


COLOURS = dict(
    forward=('#555555', 'forward'),
    within=('#31a354', 'aggregation within a level'),
    between=('#e6550d', 'aggregation between levels'),
)


def _edges(graph: nx.DiGraph) -> Iterator[tuple[list, str, float]]:
    """Edges by what they are for, with colour and bend."""
    kinds: dict[str, list] = {kind: [] for kind in COLOURS}
    for tail, head in graph.edges:
        group = graph.nodes[head]['group']
        if graph.nodes[head]['kind'] != 'node':
            kinds['forward'].append((tail, head))
        elif graph.nodes[tail]['group'] == group != 'IDA-up':
            kinds['within'].append((tail, head))
        else:
            kinds['between'].append((tail, head))
    for kind, edges in kinds.items():
        bent = [e for e in edges if graph.nodes[e[0]]['group'] != graph.nodes[e[1]]['group']]
        straight = [e for e in edges if e not in bent]
        yield straight, COLOURS[kind][0], 0.0
        yield bent, COLOURS[kind][0], -0.25 if kind == 'between' else 0.0
