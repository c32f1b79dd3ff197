"""The drawn graph is that of the network: vertices, edges and what they are."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import pytest
import torch
from torch import nn

from mmdla.analysis.aggregation_graph import IMAGE, draw, layout, trace
from mmdla.models import DLA, AFAUp, AggregatedStages, IDAUp
from mmdla.models.layers import FORMS, AggregationNode, BasicBlock, Bottleneck, PooledNode

ROOT = Path(__file__).resolve().parents[2]


def of_kind(graph: nx.DiGraph, kind: str) -> list[str]:
    return [n for n, v in graph.nodes.items() if v['kind'] == kind]


def hda_edges(depth: int, aggregates_input: bool) -> int:
    """Edges into the blocks and nodes of a tree, from equation (2).

    Each block has one input. The node of a tree of depth n takes L1, L2 and R_1 ... R_{n-1}: over all
    its subtrees, 2^{n-1} nodes take two blocks each and 2^{n-1} - 1 earlier nodes are taken once each
    as an R.
    """
    return 2**depth + 2 * 2 ** (depth - 1) + 2 ** (depth - 1) - 1 + aggregates_input


@pytest.mark.parametrize('arch', ['34', '60', '102', '169'])
def test_counts_are_the_papers_and_the_modules(arch):
    model = DLA(arch)
    graph = trace(model)
    depths = model.arch['tree_depths']
    blocks, nodes = of_kind(graph, 'block'), of_kind(graph, 'node')
    assert len(blocks) == sum(2**d for d in depths)
    assert len(nodes) == sum(2 ** (d - 1) for d in depths)
    modules = list(model.modules())
    assert len(blocks) == sum(isinstance(m, BasicBlock | Bottleneck) for m in modules)
    assert len(nodes) == sum(isinstance(m, AggregationNode) for m in modules)
    edges = sum(hda_edges(d, aggregates_input=i > 0) for i, d in enumerate(depths))
    assert graph.number_of_edges() == edges + 3  # into the stem, level 0 and level 1
    for name in nodes:
        # What a node takes, by the channels of its convolution.
        taken = sum(graph.nodes[p]['channels'] for p in graph.predecessors(name))
        assert taken == model.get_submodule(name).conv.in_channels
    assert nx.is_directed_acyclic_graph(graph)
    assert all(nx.has_path(graph, IMAGE, n) for n in graph)


def test_levels_strides_and_channels():
    model = DLA('34')
    for name, vertex in trace(model).nodes.items():
        if name.startswith('level'):
            level = int(name[5])
            assert vertex['group'] == f'level {level}'
            assert vertex['stride'] == 2**level
            assert vertex['channels'] == model.channels[level]


def test_dla34_edge_by_edge():
    """Level 3, as Figure 3 shows a tree of depth 2."""
    graph = trace(DLA('34'))
    taken = {n: set(graph.predecessors(n)) for n in graph if n.startswith('level3')}
    tree1, tree2, before = 'level3.tree1', 'level3.tree2', 'level2.root'
    assert taken == {
        f'{tree1}.tree1': {before},
        f'{tree1}.tree2': {f'{tree1}.tree1'},
        f'{tree1}.root': {f'{tree1}.tree1', f'{tree1}.tree2'},
        f'{tree2}.tree1': {f'{tree1}.root'},
        f'{tree2}.tree2': {f'{tree2}.tree1'},
        f'{tree2}.root': {f'{tree2}.tree1', f'{tree2}.tree2', f'{tree1}.root', before},
    }


@pytest.mark.parametrize('form', FORMS)
def test_every_form(form):
    graph = trace(DLA('34', aggregation=form))
    per_level = dict(none=[0, 0], shallow=[1, 3], ida=[1, 3], tree=[1, 3], reentrant=[1, 3], hda=[1, 2])
    shallow, deep = per_level[form]
    linked = 3 if form in ('shallow', 'ida') else 0  # the input takes a node of its own
    assert len(of_kind(graph, 'block')) == 12
    assert len(of_kind(graph, 'node')) == 2 * shallow + 2 * deep + linked
    feeds = {
        t for n in of_kind(graph, 'block') if n.startswith('level3') for t in graph.predecessors(n)
    }
    within = [n for n in feeds if n.startswith('level3') and graph.nodes[n]['kind'] == 'node']
    assert bool(within) is (form in ('reentrant', 'hda')), 'aggregations that feed blocks'


def test_decoder_and_other_networks():
    backbone = DLA('34', out_indices=(1, 2, 3, 4, 5))
    graph = trace(nn.Sequential(backbone, IDAUp(backbone.channels[1:])))
    up = [n for n, v in graph.nodes.items() if v['group'] == 'IDA-up']
    assert len(up) == 4 + 3 + 2 + 1
    assert all(graph.in_degree(n) == 2 for n in up)
    graph = trace(nn.Sequential(backbone, AFAUp(backbone.channels[1:])))
    assert [n for n, v in graph.nodes.items() if v['group'] == 'fusion'] == ['1.fusion']
    steps = {'1.ida_1.node_2', '1.ida_2.node_3', '1.ida_3.node_4'}
    assert set(graph.predecessors('1.fusion')) == steps
    convs = [nn.Conv2d(a, b, 3, 2, 1) for a, b in ((8, 8), (8, 16), (16, 16), (16, 32))]
    model = AggregatedStages(convs, [8, 16, 16, 32], nn.Conv2d(3, 8, 3, 2, 1))
    graph = trace(model)
    assert [v['channels'] for v in graph.nodes.values()] == [3, 8, 8, 16, 16, 16, 32, 32]
    assert sum(isinstance(m, PooledNode) for m in model.modules()) == len(of_kind(graph, 'node')) == 2
    with pytest.raises(ValueError, match='Linear has neither a DLA'):
        trace(nn.Linear(2, 2))


def test_tracing_leaves_the_model_as_it_was():
    model = DLA('46_c').eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    trace(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize('form', FORMS)
def test_no_two_vertices_are_drawn_on_each_other(form):
    backbone = DLA('102', aggregation=form)
    position = layout(trace(nn.Sequential(backbone, IDAUp(backbone.channels[2:]))))
    places = torch.tensor(list(position.values()))
    distance = torch.cdist(places, places) + torch.eye(len(places))
    assert distance.min() >= 0.49, 'closer than a vertex is wide'


def drawn(svg: str) -> tuple[list[int], int]:
    """Vertices of each kind and shapes (edges, boxes, background) in a picture."""
    ids = {element.get('id'): element for element in ElementTree.fromstring(svg).iter()}
    vertices = [
        sum(element.tag.endswith('}use') for element in ids[kind].iter()) if kind in ids else 0
        for kind in ('images', 'convs', 'blocks', 'nodes')
    ]
    return vertices, len([i for i in ids if i and i.startswith('patch_')])


def expected(graph: nx.DiGraph) -> tuple[list[int], int]:
    kinds = [len(of_kind(graph, k)) for k in ('image', 'conv', 'block', 'node')]
    boxes = len({v['group'] for v in graph.nodes.values()} - {'image'})
    return kinds, graph.number_of_edges() + boxes + 1


def test_the_picture_shows_every_vertex_and_edge(tmp_path):
    graph = trace(DLA('34'))
    draw(graph, tmp_path / 'a.svg', 'DLA-34')
    draw(graph, tmp_path / 'b.svg', 'DLA-34')
    text = (tmp_path / 'a.svg').read_text()
    assert text == (tmp_path / 'b.svg').read_text()
    assert drawn(text) == expected(graph)
    draw(graph, tmp_path / 'a.png')
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


PICTURES = {'dla34': ('34', 'hda'), 'dla102': ('102', 'hda')}
PICTURES |= {f'dla34_{form}': ('34', form) for form in FORMS if form != 'hda'}


@pytest.mark.parametrize('name', PICTURES)
def test_the_pictures_in_the_docs_show_the_networks(name):
    arch, form = PICTURES[name]
    picture = (ROOT / f'docs/images/{name}.svg').read_text()
    assert drawn(picture) == expected(trace(DLA(arch, aggregation=form)))


@pytest.mark.parametrize('size', [33, 16])
def test_sizes_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match=f'size={size}: must be a multiple'):
        trace(DLA('46_c'), size)


def test_the_tool(run_tool, tmp_path):
    def run(network, picture, *args):
        return run_tool('visualization/draw_network.py', network, '--out', picture, *args)

    picture = tmp_path / 'new/dla34.svg'
    assert run('34', picture) == (0, f'12 blocks, 6 nodes, 32 edges: {picture}\n')
    status, said = run('34', picture)
    assert status
    assert 'exists already; --force overwrites it' in said
    assert run('34', picture, '--force', '--aggregation', 'ida')[0] == 0
    assert 'must end in .svg, .png or .pdf' in run('34', tmp_path / 'dla34.txt')[1]
    assert 'neither a config nor an architecture (34, 46_c' in run('50', tmp_path / 'a.svg')[1]
    pytest.importorskip('mmseg')
    option = 'model.backbone.aggregation=ida'
    demo = ROOT / 'configs/dla34_demo.py'
    _, said = run(demo, tmp_path / 'demo.png', '--cfg-options', option)
    assert '12 blocks, 21 nodes' in said
