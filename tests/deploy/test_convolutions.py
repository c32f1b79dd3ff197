"""Winograd convolutions within networks: which are replaced, what is fused into them, and what is not."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import random_norms
from torch import nn

from mmdla.deploy import optimize, winograd
from mmdla.deploy.convolutions import WinogradConv2d, fuse, replace_convolutions
from mmdla.models import DLA, DRN


@pytest.fixture(autouse=True, scope='module')
def _operator():
    if winograd.unavailable():
        pytest.skip(winograd.unavailable())


class Graph(nn.Module):
    """Two convolutions and what a function makes of them."""

    def __init__(self, function, channels=32):
        super().__init__()
        self.a = nn.Conv2d(channels, 32, 3, padding=1)
        self.b = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def residual_in_place(m, x):
    y = m.b(F.relu(m.a(x), inplace=True))
    y += x
    return m.relu(y)


def added_later(m, x):
    y = m.a(x)
    shortcut = m.b(x).sigmoid()
    return F.relu(y + shortcut)


def changed_between(m, x):
    x = x.clone()
    y = m.a(x)
    x.neg_()
    return y + x


def changed_after_concatenation(m, x):
    x = x.clone()
    z = torch.cat([x[:, :16], x[:, 16:]], 1)
    x *= -1
    return m.a(z)


# What a function computes, and how many operations are taken into its convolutions.
FUSED = [
    (lambda m, x: m.relu(m.a(x)), 1),
    (lambda m, x: m.a(x).relu(), 1),
    (lambda m, x: torch.relu(x + m.a(x)), 2),
    (lambda m, x: m.a(x).add(x), 1),
    (residual_in_place, 3),
    (added_later, 2),
    (lambda m, x: m.relu(m.a(torch.cat([x[:, :16], x[:, 16:]], 1))), 2),
    (lambda m, x: m.a(torch.cat((x[:, :7], x[:, 7:]), dim=1)), 1),
    (lambda m, x: m.a(torch.cat(tensors=(x[:, :7], x[:, 7:]), dim=1)), 1),
    (lambda m, x: m.a(x) + m.b(x), 1),
]
# ... and what is left as it is: used twice, another shape, another factor, no map, another order.
LEFT = [
    lambda m, x: (lambda y: (y, F.relu(y)))(m.a(x)),
    lambda m, x: (lambda y: y + y)(m.a(x)),
    lambda m, x: m.a(x) + x.mean((2, 3), keepdim=True),
    lambda m, x: m.a(x) + 1,
    lambda m, x: torch.add(m.a(x), x, alpha=2),
    lambda m, x: (lambda y: (y, m.a(y)))(torch.cat([x[:, :16], x[:, 16:]], 1)),
    lambda m, x: m.a(torch.cat([x, x], 2)),
    lambda m, x: F.leaky_relu(m.a(x), 0.1),
    lambda m, x: m.a(x) - x,
    changed_between,
    changed_after_concatenation,
]


def fused(function) -> int:
    """The number of operations that were taken in, once the outputs have been compared."""
    plain = Graph(function).eval()
    x = torch.randn(2, 32, 13, 18)
    quick = copy.deepcopy(plain)
    replace_convolutions(quick, lambda: quick(x))
    assert any(isinstance(m, WinogradConv2d) for m in quick.modules())
    numbers = []

    def backend(graph, inputs):
        numbers.append(fuse(graph))
        return graph

    torch._dynamo.reset()
    with torch.no_grad():
        found, wanted = torch.compile(quick, backend=backend, fullgraph=True)(x), plain(x)
    for a, b in zip(*((t,) if isinstance(t, torch.Tensor) else t for t in (found, wanted))):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert len(numbers) == 1
    return numbers[0]


@pytest.mark.parametrize(('function', 'number'), FUSED)
def test_fused(function, number):
    assert fused(function) == number


@pytest.mark.parametrize('function', LEFT)
def test_left(function):
    assert fused(function) == 0


def test_which_convolutions_are_replaced():
    layers = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),  # too few channels
        nn.Conv2d(32, 32, 3, padding=1),
        nn.Conv2d(32, 32, 3, padding=1, bias=False),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 3),
        nn.Conv2d(32, 32, 1),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode='reflect'),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.Conv2d(32, 32, 3, stride=8, padding=1),
        nn.Conv2d(32, 32, 3, padding=1),  # on a map of three pixels
    ).eval()
    x = torch.randn(1, 3, 37, 41)
    with torch.no_grad():
        wanted = layers(x)
        replace_convolutions(layers, lambda: layers(x))
        found = layers(x)
    replaced = [i for i, layer in enumerate(layers) if isinstance(layer, WinogradConv2d)]
    assert replaced == [1, 2]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    unused = nn.ModuleList([nn.Conv2d(32, 32, 3, padding=1)])
    replace_convolutions(unused, lambda: None)
    assert type(unused[0]) is nn.Conv2d


def test_shared_convolutions_are_replaced_everywhere():
    conv = nn.Conv2d(32, 32, 3, padding=1)
    layers = nn.Sequential(conv, nn.ReLU(), nn.Sequential(conv))
    x = torch.randn(1, 32, 32, 32)
    replace_convolutions(layers, lambda: layers(x))
    assert layers[0] is layers[2][0]
    assert isinstance(layers[0], WinogradConv2d)


@pytest.mark.parametrize('kind', [DLA, DRN])
def test_networks_have_them(kind):
    arch = dict(DLA='34', DRN='d_22')[kind.__name__]
    backbone = random_norms(kind(arch))
    quick = optimize(backbone, torch.rand(1, 3, 96, 96), compile=False)
    assert any(isinstance(m, WinogradConv2d) for m in quick.modules())
    for size in [(96, 96), (65, 97), (33, 40)]:
        x = torch.rand(2, 3, *size)
        with torch.no_grad():
            for a, b in zip(quick(x), backbone(x)):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * b.abs().max().item())
    half = optimize(backbone, torch.rand(1, 3, 96, 96), torch.bfloat16, compile=False)
    assert not any(isinstance(m, WinogradConv2d) for m in half.modules())


def test_without_a_compiler(monkeypatch):
    """The convolutions stay, and everything works."""
    monkeypatch.setattr('mmdla.deploy.convolutions.available', lambda: False)
    backbone = random_norms(DLA('34'))
    quick = optimize(backbone, torch.rand(1, 3, 64, 64), compile=False)
    assert not any(isinstance(m, WinogradConv2d) for m in quick.modules())
