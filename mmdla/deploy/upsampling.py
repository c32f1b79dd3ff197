"""Learned upsampling by phases."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import LearnedUpsample
from ..models.layers.recompute import compiling


class PhaseUpsample(nn.Module):
    r"""Computes a :class:`LearnedUpsample` phase by phase.

    With kernel 2f and stride f each output depends on two inputs in each direction. In one dimension,
    with :math:`q = f i + r` counting the output with its padding, :math:`0 \le r < f`:

    .. math:: y_q = w_r x_i + w_{f + r} x_{i - 1}

    Each of the f phases r is a convolution with two taps; the outputs of the phases are interleaved.

    Args:
        upsample (LearnedUpsample): Whose weights it takes.
    """

    taps: Tensor

    def __init__(self, upsample: LearnedUpsample):
        super().__init__()
        f, channels = upsample.factor, upsample.in_channels
        self.factor, self.channels = f, channels
        taps = upsample.weight.detach().reshape(channels, 2, f, 2, f).flip(1, 3)
        # (taps, phases, channels), first the input before
        self.register_buffer('taps', taps.permute(1, 3, 2, 4, 0).reshape(4, f * f, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, f H, f W)."""
        f, (height, width) = self.factor, x.shape[2:]
        # The compiler makes one loop over the channels, which must fill the vector registers.
        y = self._products(x) if compiling() and self.channels % 16 == 0 else self._convolution(x)
        start = f // 2
        return y[..., start : start + f * height, start : start + f * width]

    def _products(self, x: Tensor) -> Tensor:
        f, (height, width) = self.factor, x.shape[2:]
        taps = self.taps.view(2, 2, f, 1, f, self.channels)
        x = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
        products = [
            x[:, a : a + height + 1, None, b : b + width + 1, None] * taps[a, b]
            for a in range(2)
            for b in range(2)
        ]
        y = sum(products[1:], products[0])
        y = y.reshape(len(x), f * (height + 1), f * (width + 1), self.channels)
        return y.permute(0, 3, 1, 2)

    def _convolution(self, x: Tensor) -> Tensor:
        kernels = self.taps.permute(2, 1, 0).reshape(-1, 1, 2, 2)
        return F.pixel_shuffle(F.conv2d(x, kernels, padding=1, groups=self.channels), self.factor)
