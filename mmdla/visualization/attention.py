"""Draws what attentive feature aggregation attends to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def attention_maps(model: Any, inputs: Tensor) -> dict[str, dict[str, Tensor]]:
    r"""The attention of a segmentor to levels, nodes' inputs and scales.

    Args:
        model (nn.Module): A segmentor of mmseg whose neck is an :class:`mmdla.models.AFAUp`, in
            evaluation mode.
        inputs (Tensor): An image as its preprocessor returns it, (1, C, H, W).

    Returns:
        dict[str, dict[str, Tensor]]: By row and caption, (h, w), from 0 to 1. Rows are ``'levels'``,
        :math:`A_i` of each fused level; ``'nodes'``, the spatial attention to the shallower input of
        the last node of each step of the up-network; and, of an
        :class:`mmdla.models.MultiScaleSegmentor` that predicts at several scales, ``'scales'``, the
        weight :math:`w_i` of each scale of its ``test_cfg``.

    Raises:
        ValueError: If the neck is another.
    """
    from ..models import AFAUp

    neck = getattr(model, 'neck', None)
    if not isinstance(neck, AFAUp):
        raise ValueError(f'the neck of the model must be an AFAUp, not {type(neck).__name__}')
    with torch.no_grad():
        found = neck.attention(model.backbone(inputs))
        weights = model.scale_weights(inputs) if hasattr(model, 'scale_weights') else {}
    last = {name.partition('.')[0]: name for name in found if not name.startswith('fusion.')}
    stride = {name: round(inputs.shape[2] / maps[0].shape[2]) for name, maps in found.items()}
    # Fused levels are interpolated to the finest one's size; steps end at their own strides.
    ends = [stride[name] for name in last.values()][-neck.fusion.inputs :]
    levels = dict(zip((f'fusion.{i}' for i in range(len(ends))), ends))
    rows = {
        row: {
            f'{what} {number}; channels {found[name][1].mean():.2f}': found[name][0][0, 0]
            for name, number in names.items()
        }
        for row, what, names in (
            ('levels', 'level of stride', levels),
            ('nodes', 'last node at stride', {name: stride[name] for name in last.values()}),
        )
    }
    if weights:
        rows['scales'] = {f'scale {scale:g}': w[0, 0] for scale, w in weights.items()}
    return rows


def draw_attention(
    image: np.ndarray,
    rows: Mapping[str, Mapping[str, Tensor]],
    path: str | os.PathLike,
    title: str = '',
) -> None:
    """Draw an image and attention maps in rows; below each its caption and its mean.

    Args:
        image (ndarray): uint8, (H, W, 3), BGR.
        rows (Mapping[str, Mapping[str, Tensor]]): Of :func:`attention_maps`. All have one scale of
            colours, from 0 (dark) to 1.
        path (str | PathLike): Picture to write; its suffix is the format. An existing file is
            overwritten.
        title (str): Title of the picture. Default: ``''``, no title.
    """
    from matplotlib.figure import Figure

    first, *others = rows.items()
    columns = max(1 + len(first[1]), *(len(maps) for _, maps in others), 1)
    ratio = image.shape[0] / image.shape[1]
    figure = Figure(figsize=(3 * columns, len(rows) * (3 * ratio + 0.5) + 0.3), layout='constrained')
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow(image[..., ::-1])
    axes[0, 0].set_title('image\n', fontsize=8)
    drawn = None
    for row, (_, maps) in enumerate(rows.items()):
        for axis, (caption, values) in zip(axes[row, 1 if row == 0 else 0 :], maps.items()):
            drawn = axis.imshow(
                values.float().cpu(), cmap='viridis', vmin=0, vmax=1, extent=(0, 1, ratio, 0)
            )
            name, *channels = caption.split('; ')
            means = ', '.join([f'pixels {values.mean():.2f}', *channels])
            axis.set_title(f'{name}\nmean of {means}', fontsize=8)
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.6, fraction=0.03, label='attention')
    figure.suptitle(title)
    figure.savefig(path, dpi=80)
