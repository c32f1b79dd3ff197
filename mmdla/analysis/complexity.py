"""Counts the parameters and multiply-adds of a model."""

from __future__ import annotations

from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn


def count(model: nn.Module, image: Tensor) -> tuple[int, int]:
    """Count the parameters and multiply-adds of a model, which is put into evaluation mode.

    As in mmengine, normalization, activation, pooling and sums do not count.

    Args:
        model (nn.Module): Takes a batch of images.
        image (Tensor): Its input.

    Returns:
        tuple[int, int]: Parameters, and what mmengine calls FLOPs, which are multiply-adds.
    """
    model.eval()
    analyzer = FlopAnalyzer(model, (image,))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return sum(p.numel() for p in model.parameters()), analyzer.total()


def blank_images(model: nn.Module, number: int, height: int, width: int) -> Tensor:
    """Images of zeros with the channels, type and device of the model's first convolution."""
    weight = next(p for p in model.parameters() if p.ndim == 4)
    return weight.new_zeros(number, weight.shape[1], height, width)
