"""Winograd's convolution against the direct one in float64: shapes, borders, layouts, NaN, compilation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmdla.deploy import winograd as module
from mmdla.deploy.winograd import (
    G,
    is_profitable,
    measure_speedup,
    transform_weights,
    unavailable,
    winograd,
)

built = pytest.mark.skipif(unavailable() is not None, reason=f'no operator: {unavailable()}')
ERROR = 1e-5  # relative, of norms; 1e-6 to 4e-6 are seen


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.manual_seed(0)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def direct(xs, weight, bias, residual=None, relu=False):
    y = F.conv2d(torch.cat(xs, 1).double(), weight.double(), bias.double(), padding=1)
    y = y if residual is None else y + residual.double()
    return y.relu() if relu else y


def error(y, expected):
    assert y.shape == expected.shape
    assert y.dtype == torch.float32
    assert y.is_contiguous(memory_format=torch.channels_last)
    return ((y - expected).norm() / expected.norm().clamp(min=1e-6)).item()


def case(n, channels, k, h, w):
    xs = [torch.randn(n, h, w, c).permute(0, 3, 1, 2) for c in channels]
    return xs, torch.randn(k, sum(channels), 3, 3), torch.randn(k)


SHAPES = [
    (1, [1], 1, 1, 1),
    (1, [1], 1, 2, 9),
    (2, [3], 5, 7, 6),
    (1, [16], 16, 8, 8),
    (3, [17], 33, 5, 13),
    (1, [48], 48, 4, 3),
    (1, [20], 40, 33, 47),
    (1, [64], 96, 1, 70),
    (1, [130], 70, 70, 1),
    (1, [32, 32], 32, 24, 40),
    (2, [5, 16, 1, 9], 19, 9, 10),
    (1, [17, 17], 64, 12, 12),
    (4, [64], 64, 56, 56),
    (4, [128], 128, 28, 28),
    (4, [256], 256, 14, 14),
    (4, [512], 512, 7, 7),
]


@built
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_is_the_direct_convolution(shape):
    xs, weight, bias = case(*shape)
    u = transform_weights(weight)
    residual = torch.randn(shape[0], *shape[3:], shape[2]).permute(0, 3, 1, 2)
    assert error(winograd(xs, u, bias), direct(xs, weight, bias)) < ERROR
    for relu in (False, True):
        expected = direct(xs, weight, bias, residual, relu)
        assert error(winograd(xs, u, bias, residual, relu), expected) < ERROR


@built
@pytest.mark.parametrize('count', [1, 2, 7])
@pytest.mark.parametrize('shape', [(1, [24], 200, 6, 6), (2, [40], 24, 37, 30)], ids=str)
def test_threads_share_tiles_or_channels(shape, count):
    xs, weight, bias = case(*shape)
    torch.set_num_threads(count)
    y = winograd(xs, transform_weights(weight), bias, relu=True)
    assert error(y, direct(xs, weight, bias, relu=True)) < ERROR


@built
def test_borders_see_zeros():
    x, weight = torch.ones(1, 1, 6, 7), torch.ones(1, 1, 3, 3)
    y = winograd([x], transform_weights(weight), torch.zeros(1))
    torch.testing.assert_close(y, F.conv2d(x, weight, padding=1))
    # Each pixel alone, in every place of a tile.
    xs = torch.eye(42).reshape(42, 1, 6, 7)
    weight = torch.randn(1, 1, 3, 3)
    y = winograd([xs], transform_weights(weight), torch.zeros(1))
    torch.testing.assert_close(y, F.conv2d(xs, weight, padding=1), rtol=0, atol=1e-5)


@built
def test_any_layout():
    xs, weight, bias = case(2, [12, 20], 24, 11, 10)
    u = transform_weights(weight)
    expected = winograd(xs, u, bias, relu=True)
    wide = [torch.cat([x, x], 3)[..., : x.shape[3]] for x in xs]
    for others in ([x.contiguous() for x in xs], wide, [x.mT.contiguous().mT for x in xs]):
        assert torch.equal(winograd(others, u, bias, relu=True), expected)
    strided = torch.stack([bias, bias], 1)[:, 0]
    assert torch.equal(winograd(xs, u.mT.contiguous().mT, strided, relu=True), expected)


@built
def test_memory_format_leaves_u():
    u = transform_weights(torch.randn(40, 20, 3, 3))
    holder = nn.Module()
    holder.register_buffer('u', u)
    assert holder.to(memory_format=torch.channels_last).u.is_contiguous()


@built
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_what_is_not_finite_stays_so(value, relu):
    xs, weight, bias = case(1, [20], 36, 17, 15)
    u = transform_weights(weight)
    clean = winograd(xs, u, bias, relu=relu)
    xs[0][0, 3, 9, 8] = value
    y = winograd(xs, u, bias, relu=relu)
    bad = ~y.isfinite().all(1)[0]
    assert bad[8:11, 7:10].all()
    # Row 9 is seen by the tiles of rows 8 to 11 only, column 8 by those of columns 4 to 7 and 8 to 11.
    assert not bad[:8].any()
    assert not bad[12:].any()
    assert not bad[:, :4].any()
    assert not bad[:, 12:].any()
    assert torch.equal(y[..., :8, :], clean[..., :8, :])
    if value != value:
        assert y[0, :, 9, 8].isnan().all()


@built
@pytest.mark.parametrize('shape', [(0, 8, 5, 5), (2, 8, 0, 5), (2, 8, 5, 0)])
def test_empty_maps(shape):
    y = winograd([torch.empty(shape)], transform_weights(torch.randn(6, 8, 3, 3)), torch.zeros(6))
    assert y.shape == (shape[0], 6, *shape[2:])


@built
def test_inputs_that_do_not_fit():
    x, u, bias = torch.randn(1, 8, 5, 5), transform_weights(torch.randn(6, 8, 3, 3)), torch.zeros(6)
    with pytest.raises(RuntimeError, match='one map'):
        winograd([], u, bias)
    with pytest.raises(RuntimeError, match='one batch and size'):
        winograd([x, x[..., 1:]], u, bias)
    with pytest.raises(RuntimeError, match=r'transform_weights gives for 16 channels to 6'):
        winograd([x, x], u, bias)
    with pytest.raises(RuntimeError, match='xs must be float32'):
        winograd([x.double()], u, bias)
    with pytest.raises(RuntimeError, match="residual must be of the output's shape"):
        winograd([x], u, bias, x)


def test_transformed_weights():
    weight = torch.randn(40, 3, 3, 3)
    u = transform_weights(weight)
    assert u.shape == (2, 36, 96)
    assert u.dtype == torch.float32
    g = torch.tensor(G, dtype=torch.float64)
    kernels = u.unflatten(2, (3, 32)).permute(0, 3, 2, 1).flatten(0, 1)
    torch.testing.assert_close(
        kernels[:40].unflatten(2, (6, 6)).double(), g @ weight.double() @ g.T, rtol=1e-6, atol=1e-7
    )
    assert not kernels[40:].any()
    with pytest.raises(ValueError, match=r'\(K, C, 3, 3\), got \(8, 8, 1, 1\)'):
        transform_weights(torch.randn(8, 8, 1, 1))


@built
def test_operator_keeps_the_contract():
    xs, weight, bias = case(2, [6, 10], 20, 9, 7)
    u = transform_weights(weight)
    residual = torch.randn(2, 20, 9, 7)
    operator = torch.ops.mmdla.winograd.default
    torch.library.opcheck(operator, (xs, u, bias, None, False))
    torch.library.opcheck(operator, (xs, u, bias, residual, True))


class Node(nn.Module):
    """Two convolutions with a residual, then one over a concatenation."""

    def __init__(self):
        super().__init__()
        for i, channels in enumerate((16, 16, 32)):
            self.register_buffer(f'w{i}', torch.randn(16, channels, 3, 3) / 12)
            self.register_buffer(f'u{i}', transform_weights(getattr(self, f'w{i}')))
        self.register_buffer('bias', torch.randn(16))

    def forward(self, x):
        operator = torch.ops.mmdla.winograd
        y = operator([x], self.u0, self.bias, None, True)
        y = operator([y], self.u1, self.bias, x, True)
        return operator([y, x], self.u2, self.bias, None, False)


@built
def test_compiles_whole_without_copies():
    from torch._inductor.utils import run_and_get_code

    node = Node().eval().to(memory_format=torch.channels_last)
    compiled = torch.compile(node, fullgraph=True, dynamic=True)
    x = torch.randn(2, 16, 12, 20).to(memory_format=torch.channels_last)
    y, code = run_and_get_code(compiled, x)
    assert torch.equal(y, node(x))
    # Between the operators inductor has nothing of its own to run.
    assert 'winograd' in code[0]
    assert 'cpp_fused' not in code[0]
    x = torch.randn(1, 16, 30, 9).to(memory_format=torch.channels_last)
    assert torch.equal(compiled(x), node(x))
    middle = direct([x], node.w0, node.bias, relu=True)
    middle = direct([middle], node.w1, node.bias, x, relu=True)
    assert error(compiled(x), direct([middle, x], node.w2, node.bias)) < ERROR


@built
def test_trial_gives_a_ratio():
    assert measure_speedup(1, 32, 16, 8, 8, parts=2, seconds=0) > 0
    with pytest.raises(ValueError, match='parts must divide the 32 channels, got 3'):
        measure_speedup(1, 32, 16, 8, 8, parts=3)


def test_where_it_pays():
    assert is_profitable(64, 64, 56, 56, 4)
    assert is_profitable(512, 512, 7, 7, 4)
    assert is_profitable(64, 32, 256, 512)
    assert not is_profitable(512, 512, 4, 4)
    assert not is_profitable(3, 16, 512, 512)
    assert not is_profitable(16, 16, 512, 1024)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (
            lambda m: m.setattr(torch, '__version__', '2.3.1+cpu'),
            'PyTorch is 2.3.1.cpu; .* 2.4 or later',
        ),
        (lambda m: m.setattr(sys, 'platform', 'win32'), "platform is 'win32'"),
        (lambda m: m.setenv('CXX', 'no-such-compiler'), "no C\\+\\+ compiler 'no-such-compiler'"),
        (lambda m: m.setenv('CXX', 'false'), 'false fails'),
        (lambda m: m.setenv('TORCH_EXTENSIONS_DIR', '/proc/nowhere'), '/proc/nowhere'),
    ],
    ids=['torch', 'platform', 'compiler', 'error', 'folder'],
)
def test_reason_where_it_cannot_be_built(monkeypatch, tmp_path, change, reason):
    monkeypatch.setenv('TORCH_EXTENSIONS_DIR', str(tmp_path))
    monkeypatch.setattr(module, '_unavailable', module._unavailable.__wrapped__)
    change(monkeypatch)
    assert not module.available()
    with pytest.raises(RuntimeError, match=f'no Winograd convolution: .*{reason}'):
        module.load()


@pytest.mark.slow
@built
def test_processes_build_once(tmp_path):
    code = 'from mmdla.deploy.winograd import load; load()'
    root = Path(module.__file__).parents[2]
    environment = os.environ | {'TORCH_EXTENSIONS_DIR': str(tmp_path), 'PYTHONPATH': str(root)}
    command = [sys.executable, '-c', code]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert sum('compiling' in text for text in said) == 1
    assert len(list(tmp_path.glob('mmdla/*.so'))) == 1
