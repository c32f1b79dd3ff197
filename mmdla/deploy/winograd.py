"""Winograd's convolution for inference on CPUs: an operator compiled on its first use.

Y = A^T [(G g G^T) . (B^T d B)] A for each tile of 4x4 outputs and the 6x6 inputs d it sees: 36 products
per pair of channels, where direct convolution takes 144. It handles float32, kernel 3, stride 1,
padding 1 and one group; inputs and output are channels last. Its relative error is 1e-6 to 4e-6, four
times that of direct convolution. An infinity or NaN spreads to all outputs of the tiles that contain
it, where infinities may become NaN.

Source: Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", Section 4.3.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

SOURCE = Path(__file__).parent / 'csrc' / 'winograd.cpp'
PANEL = 32  # output channels that the kernel computes together; `kPanel` of winograd.cpp
FLAGS = ('-std=c++20', '-O3', '-fPIC', '-shared', '-ffp-contract=fast')
NATIVE = {'x86_64': ('-march=native', '-mprefer-vector-width=512'), 'aarch64': ('-mcpu=native',)}

# Rows for the points 0, 1, -1, 2, -2 and infinity.
G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def _command() -> list[str]:
    """The compiler and its arguments, without sources, output and paths.

    Raises:
        RuntimeError: If the operator cannot be built for this PyTorch or on this machine.
    """
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 4):
        raise RuntimeError(f'PyTorch is {torch.__version__}; the operator needs 2.4 or later')
    if sys.platform != 'linux':
        raise RuntimeError(f'the platform is {sys.platform!r}; the operator is built on Linux only')
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler.split()[0]) is None:
        raise RuntimeError(f'there is no C++ compiler {compiler!r}; install g++ or clang, or set CXX')
    abi = f'-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}'
    return [*compiler.split(), *FLAGS, *NATIVE.get(platform.machine(), ()), abi]


def _library(command: Sequence[str]) -> Path:
    """Path of the compiled library, in PyTorch's folder of extensions.

    Its name is a hash of the source, the command, PyTorch's version and the processor.
    """
    # A home folder may be shared by machines, and `-march=native` means something else on each.
    cpu = ''
    if os.path.exists('/proc/cpuinfo'):
        lines = Path('/proc/cpuinfo').read_text(errors='replace').splitlines()
        cpu = next((line for line in lines if line.lower().startswith(('flags', 'features'))), '')
    parts = (SOURCE.read_text(), *command, torch.__version__, platform.machine(), cpu)
    name = hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:16]
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    root = os.environ.get('TORCH_EXTENSIONS_DIR') or f'{cache}/torch_extensions'
    return Path(root).expanduser() / 'mmdla' / f'winograd_{name}.so'


def _build(command: Sequence[str], library: Path) -> None:
    """Compile the library; processes that call this at the same time wait for the first."""
    from filelock import FileLock

    library.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{library}.lock'), tempfile.TemporaryDirectory(dir=library.parent) as folder:
        if library.exists():
            return
        print(
            f'mmdla: compiling {SOURCE.name} into {library.parent}, once, some ten seconds', flush=True
        )
        home, output = Path(torch.__file__).parent, Path(folder) / library.name
        includes = [f'-isystem{home / path}' for path in ('include', 'include/torch/csrc/api/include')]
        libraries = [f'-L{home / "lib"}', '-lc10', '-ltorch_cpu']
        command = [*command, *includes, str(SOURCE), '-o', str(output), *libraries]
        done = subprocess.run(command, capture_output=True, text=True, errors='replace')
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if 'error' in line]
            raise RuntimeError(f'{command[0]} fails: {lines[0] if lines else done.stderr[-300:]}')
        os.replace(output, library)


_once = threading.Lock()


def unavailable() -> str | None:
    """Why the operator is not available, in one line; None if it is. The first call builds it."""
    with _once:
        return _unavailable()


@functools.cache
def _unavailable() -> str | None:
    try:
        command = _command()
        library = _library(command)
        if not library.exists():
            _build(command, library)
        torch.ops.load_library(str(library))
    except (RuntimeError, OSError) as error:
        return ' '.join(str(error).split())
    torch.library.register_fake('mmdla::winograd', _fake)
    return None


def available() -> bool:
    """Whether :func:`winograd` can be called. The first call builds the operator."""
    return unavailable() is None


def load() -> None:
    """Build the operator, unless it is built already, and register it as ``mmdla::winograd``.

    Raises:
        RuntimeError: If it is not available on this machine; the message says why.
    """
    reason = unavailable()
    if reason is not None:
        raise RuntimeError(f'no Winograd convolution: {reason}')


def _fake(xs: Sequence[Tensor], u: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    x = xs[0]
    shape = (x.shape[0], bias.shape[0], x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def winograd(
    xs: Sequence[Tensor],
    u: Tensor,
    bias: Tensor,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """``relu(conv2d(cat(xs, 1), weight, bias, padding=1) + residual)``, without gradients.

    Args:
        xs (Sequence[Tensor]): Maps (N, C_i, H, W), one or more, whose channels are concatenated. Other
            layouts than channels last are copied.
        u (Tensor): The transformed weight, from :func:`transform_weights`.
        bias (Tensor): (K,), zeros for none.
        residual (Tensor, optional): (N, K, H, W), added before ReLU.
        relu (bool): Whether ReLU is the last step.

    Returns:
        Tensor: (N, K, H, W), channels last.

    Raises:
        RuntimeError: If the operator is not available, or the shapes do not fit each other.
    """
    load()
    return torch.ops.mmdla.winograd(xs, u, bias, residual, relu)


def transform_weights(weight: Tensor) -> Tensor:
    """U = G g G^T of each 3x3 kernel g, in the order the operator reads it.

    Computed in float64: U is where most of float32's error would come from.

    Args:
        weight (Tensor): (K, C, 3, 3).

    Returns:
        Tensor: float32 (ceil(K / 32), 36, C * 32), with zeros for channels beyond K; four times the
            weight's memory. Of three dimensions, so that ``module.to(memory_format=...)`` leaves it.

    Raises:
        ValueError: If the weight is not of kernel 3.
    """
    if weight.dim() != 4 or weight.shape[2:] != (3, 3):
        raise ValueError(f'weight must be of shape (K, C, 3, 3), got {tuple(weight.shape)}')
    g = torch.tensor(G, dtype=torch.float64, device=weight.device)
    u = (g @ weight.detach().double() @ g.T).flatten(2)
    u = F.pad(u, (0, 0, 0, 0, 0, -len(u) % PANEL)).unflatten(0, (-1, PANEL))
    return u.permute(0, 3, 2, 1).flatten(2).float().contiguous()


def is_profitable(in_channels: int, out_channels: int, height: int, width: int, batch: int = 1) -> bool:
    """Whether a cost model expects Winograd's algorithm to be 1.25 times as fast as direct convolution.

    It counts multiplications per pair of channels: 9 a pixel for direct convolution; 36 a tile and
    400 (1 / C + 1 / K) a tile, for the transforms, for Winograd's. Reading a weight costs 12 in both.
    Direct convolution is faster with few channels, and with fewer than some 40 pixels in a batch. The
    constants were measured on an AMD EPYC with AVX-512; :func:`measure_speedup` measures on the
    machine that it runs on.

    Args:
        in_channels (int): ``C``. With 16 or fewer the result is False, likewise for ``K``: reading and
            writing such maps takes as long as computing them.
        out_channels (int): ``K``.
        height (int): Of the maps.
        width (int): Of the maps.
        batch (int): Maps at a time.
    """
    if min(in_channels, out_channels) <= 16:
        return False
    tiles = batch * -(-height // 4) * -(-width // 4)
    direct = 9 * (batch * height * width + 12)
    ours = 36 * (tiles + 12) + 400 * tiles * (1 / in_channels + 1 / out_channels)
    return direct > 1.25 * ours


def measure_speedup(
    n: int, c: int, k: int, h: int, w: int, parts: int = 1, seconds: float = 0.2
) -> float:
    """Measure how many times as fast as direct convolution this is, with PyTorch's number of threads.

    Direct convolution is what ``torch.compile`` with freezing makes of a convolution and its ReLU: that
    of oneDNN, with weights in oneDNN's own layout. Runs of the two alternate; the result is the median
    ratio of their times.

    Args:
        n (int): Batch.
        c (int): Channels in.
        k (int): Channels out.
        h (int): Height.
        w (int): Width.
        parts (int): How many maps the ``c`` channels come from; direct convolution concatenates them.
        seconds (float): Time to spend, at least four rounds.

    Returns:
        float: Above 1 where Winograd's algorithm is faster.

    Raises:
        RuntimeError: If the operator is not available on this machine.
        ValueError: If ``parts`` does not divide the channels.
    """
    if c % parts:
        raise ValueError(f'parts must divide the {c} channels, got {parts}')
    load()
    with torch.inference_mode():
        xs = [torch.randn(n, h, w, c // parts).permute(0, 3, 1, 2) for _ in range(parts)]
        weight, bias = torch.randn(k, c, 3, 3), torch.randn(k)
        u = transform_weights(weight)
        ones = [1, 1]
        if torch.backends.mkldnn.is_available():
            packed = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
                weight.to_mkldnn(), ones, ones, ones, 1, [n, c, h, w]
            )

            def convolve(x: Tensor) -> Tensor:
                return torch.ops.mkldnn._convolution_pointwise(
                    x, packed, bias, ones, ones, ones, 1, 'relu', [], ''
                )
        else:
            weight = weight.to(memory_format=torch.channels_last)

            def convolve(x: Tensor) -> Tensor:
                return F.conv2d(x, weight, bias, padding=1).relu_()

        ratios: list[float] = []
        end = time.perf_counter() + seconds
        while len(ratios) < 4 or time.perf_counter() < end:
            start = time.perf_counter()
            convolve(torch.cat(xs, 1) if parts > 1 else xs[0])
            middle = time.perf_counter()
            torch.ops.mmdla.winograd(xs, u, bias, None, True)
            ratios.append((middle - start) / (time.perf_counter() - middle))
    return statistics.median(ratios[1:])
