"""What a model costs to run."""

from __future__ import annotations

import torch
from mmengine.analysis import get_model_complexity_info
from torch import nn


def count(model: nn.Module, height: int, width: int, table: bool = False) -> tuple[int, float, str]:
    """Parameters and multiply-adds of a model, put into evaluation mode.

    Args:
        model (nn.Module): Takes a batch of images.
        height (int): Of the image, in pixels.
        width (int): Of the image, in pixels.
        table (bool): Also make a table of the modules. Default: False.

    Returns:
        tuple[int, float, str]: Parameters, multiply-adds in billions, the table (or nothing).
    """
    image = torch.rand(1, image_channels(model), height, width)
    info = get_model_complexity_info(model.eval(), inputs=(image,), show_table=table, show_arch=False)
    # What mmengine calls FLOPs are multiply-adds.
    return sum(p.numel() for p in model.parameters()), info['flops'] / 1e9, info['out_table']


def image_channels(model: nn.Module) -> int:
    """Channels that the first convolution takes."""
    return next(p for p in model.parameters() if p.ndim == 4).shape[1]
