"""What a model costs to run."""

from __future__ import annotations

from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn


def count(model: nn.Module, image: Tensor) -> tuple[int, int]:
    """Parameters and multiply-adds of a model, put into evaluation mode.

    What mmengine does not count (normalization, activation, pooling, sums) is left out.

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
    """Black images as the model's first convolution takes them: its channels, type and device."""
    weight = next(p for p in model.parameters() if p.ndim == 4)
    return weight.new_zeros(number, weight.shape[1], height, width)
