"""Learned, frozen and plain bilinear upsampling by integer factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .recompute import exporting


def bilinear_kernel(factor: int) -> Tensor:
    """Kernel (2f, 2f) with which a transposed convolution of stride f interpolates bilinearly.

    Source: Section 4.2 ("initialized to bilinear"); Long et al., "Fully Convolutional Networks".
    """
    size = 2 * factor
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    line = 1 - (torch.arange(size) / factor - centre).abs()
    return torch.outer(line, line)


@MODELS.register_module()
class LearnedUpsample(nn.ConvTranspose2d):
    r"""Depthwise transposed convolution that begins as bilinear interpolation.

    .. math::
        y_c(p) = \sum_q w_c(p - f q + \lfloor f / 2 \rfloor)\, x_c(q)

    The kernel :math:`w_c` is 2f wide; there is no bias. The input is padded with zeros, so the borders
    of the output have smaller values than with interpolation. For odd factors the convolution computes
    one row and one column too many at the end, which are cut off.

    Args:
        channels (int): Channels, each upsampled by its own kernel.
        factor (int): ``f``, 2 or more.

    Source: released ``dla_up.py``, ``IDAUp``.
    """

    def __init__(self, channels: int, factor: int):
        self.factor = factor
        super().__init__(
            channels,
            channels,
            2 * factor,
            stride=factor,
            padding=factor // 2,
            groups=channels,
            bias=False,
        )

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.copy_(bilinear_kernel(self.factor).expand_as(self.weight))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y = super().forward(x)
        if self.factor % 2:
            y = y[..., : self.factor * x.shape[2], : self.factor * x.shape[3]]
        return y


@MODELS.register_module()
class BilinearUpsample(nn.Module):
    """Bilinear interpolation by a factor, without parameters.

    Away from the borders it equals a newly initialized :class:`LearnedUpsample`; at the borders it
    repeats the edge.

    Args:
        factor (int): 2 or more.
    """

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.factor, mode='bilinear', align_corners=False)

    def extra_repr(self) -> str:
        return f'factor={self.factor}'


@MODELS.register_module()
class FrozenUpsample(nn.Module):
    """:class:`LearnedUpsample` with its initial kernel, frozen: the released networks' last layer.

    It has no parameters, and its kernel is not part of the state dict.

    Args:
        factor (int): ``f``, 2 or more.

    Source: released ``drn``'s ``segment.py`` and ``dla``'s ``dla_up.py``, ``up``.
    """

    kernel: Tensor

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor
        self.register_buffer('kernel', bilinear_kernel(factor)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        f, channels = self.factor, x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, -1, -1, -1)
        y = F.conv_transpose2d(x, kernel, stride=f, padding=f // 2, groups=channels)
        return y[..., : f * x.shape[2], : f * x.shape[3]]

    def extra_repr(self) -> str:
        return f'factor={self.factor}'


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear interpolation to a height and width, where they differ from the map's.

    Args:
        x (Tensor): Map, (N, C, H, W).
        size (Sequence[int]): Height and width wanted.

    Returns:
        Tensor: Of shape ``(N, C, *size)``.
    """
    # A branch on sizes would bind an exported graph to them; interpolation to the same size is exact.
    if not exporting() and tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode='bilinear', align_corners=False)


def match_size(x: Tensor, size: Sequence[int], slack: int) -> Tensor:
    """Crop or pad an upsampled map to the size of the skip connection that it joins.

    A level of stride f is ``ceil(H / f)`` high (or ``floor``, in some backbones), so ``f`` times its
    height differs from H by up to ``f - 1``. Extra rows and columns at the bottom and right are cut
    off, missing ones repeat the edge. No pixel moves.

    Args:
        x (Tensor): Upsampled map, (N, C, H, W).
        size (Sequence[int]): Height and width wanted.
        slack (int): Difference, in pixels, that rounding explains.

    Returns:
        Tensor: Of shape ``(N, C, *size)``.

    Raises:
        ValueError: If the sizes differ by more than ``slack``.
    """
    height, width = x.shape[2:]
    down, right = size[0] - height, size[1] - width
    if exporting():
        # The same without a branch: negative padding cuts.
        return F.pad(x, (0, right, 0, down), mode='replicate')
    if down == 0 and right == 0:
        return x
    if max(abs(down), abs(right)) > slack:
        raise ValueError(
            f'a feature map is {height}x{width} after upsampling and meets one of '
            f'{size[0]}x{size[1]}: rounding explains {slack} pixels at the most; are the strides given '
            'to IDA-up those of the backbone?'
        )
    if down > 0 or right > 0:
        x = F.pad(x, (0, max(right, 0), 0, max(down, 0)), mode='replicate')
    return x[..., : size[0], : size[1]]
