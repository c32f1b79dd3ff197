"""Max pooling that changes the size of a map as the block that it accompanies does."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import strided
from .recompute import exporting


class DenseMaxPool2d(nn.Module):
    r"""2x2 max pooling with dilation and stride 1, which replaces 2x2 max pooling with stride 2.

    .. math::
        y(p) = \max_{a \in \{0, 1\}^2} x(p + d a)

    If the input is ``d`` times as dense, every ``d``-th output value equals that of pooling with a
    stride. Windows that cross the bottom or right edge use only the pixels inside.

    Args:
        dilation (int): :math:`d`, the distance of the two rows and columns of a window.
    """

    def __init__(self, dilation: int):
        super().__init__()
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        d = self.dilation
        x = F.pad(x, (0, d, 0, d), value=float('-inf'))
        return F.max_pool2d(x, 2, stride=1, dilation=d)

    def extra_repr(self) -> str:
        return f'dilation={self.dilation}'


class CeilMaxPool2d(nn.MaxPool2d):
    r"""Max pooling without overlap that rounds sizes up, as the strided convolution beside it does.

    .. math::
        y(p) = \max_{a \in \{0, \dots, s - 1\}^2} x(s p + a), \qquad
        \text{of size } \lceil H / s \rceil \times \lceil W / s \rceil

    Args:
        stride (int): :math:`s`, the stride of the windows and their size.
    """

    stride: int

    def __init__(self, stride: int):
        super().__init__(stride, stride, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        if exporting():
            # The same without PyTorch's branch on whether the size is a multiple of the stride.
            more = self.stride - 1
            x = F.pad(x, (0, more, 0, more), value=float('-inf'))
            return F.max_pool2d(x, self.kernel_size, self.stride)
        return super().forward(x)


def pooling(stride: int, dilation: int = 1, first_dilation: int | None = None) -> nn.Module:
    """Build the pooling that brings a block's input to the size and density of its output.

    Args:
        stride (int): Stride of the block.
        dilation (int): Dilation of the block. Default: 1.
        first_dilation (int, optional): Dilation in place of the block's stride. Default: ``dilation``.
    """
    if stride > 1:
        return CeilMaxPool2d(stride)
    if first_dilation is not None and strided(stride, dilation, first_dilation):
        return DenseMaxPool2d(first_dilation)
    return nn.Identity()
