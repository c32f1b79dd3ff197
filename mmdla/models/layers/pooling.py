"""Max pooling that changes the size of a map as the convolution beside it does."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import strided
from .recompute import exporting


class DenseMaxPool2d(nn.Module):
    """2x2 max pooling of stride 1: what stride 2 gives, at every position.

    Takes the pooling's place where dilation takes a stride's: every ``dilation``-th pixel apart is a
    neighbour. Windows that reach over the bottom or right edge see only what is inside.

    Args:
        dilation (int): Distance of the two rows and columns of a window.
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
    """Max pooling without overlap that rounds sizes up, as the strided convolution beside it does.

    Args:
        stride (int): Of the windows, and their size.
    """

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
    """Pooling that does to the size of a map what a block of this stride or dilation does."""
    if stride > 1:
        return CeilMaxPool2d(stride)
    if strided(stride, dilation, first_dilation):
        return DenseMaxPool2d(first_dilation)
    return nn.Identity()
