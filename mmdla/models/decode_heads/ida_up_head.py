"""Segmentation head of dense-prediction DLA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmengine.utils import deprecated_api_warning
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor

from ...registry import MODELS
from ..necks import IDAUp


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class IDAUpHead(BaseDecodeHead):
    """IDA-up and a 1x1 classifier at the shallowest level's stride.

    mmseg resizes the logits bilinearly to the size of the labels or the image. The released code has a
    frozen transposed convolution, which gives the same values except at the border, where they are
    smaller.

    Args:
        in_channels (Sequence[int]): Channels of the backbone's levels, shallowest first.
        num_classes (int): Number of classes.
        channels (int, optional): Width before the classifier. Default: ``in_channels[0]``, the only
            value for ``variant='nested'`` and ``'centernet'``, or 32 with ``variant='single'``.
        in_index (Sequence[int], optional): Which of the backbone's outputs to use. Default: all.
        strides (Sequence[int], optional): Strides of the levels. Default: each twice the one before.
        variant (str): ``'nested'``, as released, ``'single'``, as in the text, or ``'centernet'``.
            Default: ``'nested'``.
        upsample (str): ``'deconv'`` or ``'bilinear'``. Default: ``'deconv'``.
        node_kernel (int): Kernel of the nodes. Default: 3.
        node (dict | str | Callable): The nodes, see :class:`mmdla.models.IDAUp`. Default: ``{}``.
        with_cp (bool | str): Recompute the aggregations in backward (True), or their cheap activations
            (``'norm'``), see :class:`mmdla.models.IDAUp`. Default: False.
        dropout_ratio (float): Dropout before the classifier. Default: 0, as released.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        init_cfg (dict | list[dict], optional): Initialization of the classifier. Default: as
            released, normal with variance 2 / out_channels.
        **kwargs: Of :class:`mmseg.models.decode_heads.decode_head.BaseDecodeHead`: losses,
            ``ignore_index``, ``sampler``, ``align_corners``, ``out_channels``, ``conv_cfg``,
            ``act_cfg`` ...

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Source: Section 4.2; released ``dla_up.py``, ``DLASeg``. Parameters below ``dla_up`` have the
    released names; the released ``fc.0`` is mmseg's ``conv_seg``.

    Example:
        >>> import torch
        >>> from mmdla.models import IDAUpHead
        >>> head = IDAUpHead([64, 128, 256, 512], num_classes=19).eval()
        >>> levels = [torch.rand(1, c, *s) for c, s in zip(
        ...     (64, 128, 256, 512), ((57, 101), (29, 51), (15, 26), (8, 13)))]
        >>> head(levels).shape
        torch.Size([1, 19, 57, 101])
    """

    @deprecated_api_warning(dict(form='variant'), 'IDAUpHead')
    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int | None = None,
        in_index: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        variant: str = 'nested',
        upsample: str = 'deconv',
        node_kernel: int = 3,
        node: dict | str | Callable = {},
        with_cp: bool | str = False,
        dropout_ratio: float = 0.0,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list[dict] | None = dict(
            type='Kaiming',
            mode='fan_out',
            nonlinearity='relu',
            override=dict(name='conv_seg'),
        ),
        **kwargs: Any,
    ):
        if channels is None:
            channels = 32 if variant == 'single' else in_channels[0]
        elif variant in ('nested', 'centernet') and channels != in_channels[0]:
            raise ValueError(
                f'channels={channels}: variant={variant!r} ends with the {in_channels[0]} channels of '
                'the shallowest level; leave channels out'
            )
        super().__init__(
            list(in_channels),
            channels,
            num_classes=num_classes,
            in_index=list(range(len(in_channels)) if in_index is None else in_index),
            input_transform='multiple_select',
            dropout_ratio=dropout_ratio,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.dla_up = IDAUp(
            in_channels,
            strides,
            variant=variant,
            out_channels=channels,
            upsample=upsample,
            node_kernel=node_kernel,
            node=node,
            with_cp=with_cp,
            conv_cfg=self.conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=self.act_cfg,
        )

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """What is classified: the aggregated map."""
        return self.dla_up(self._transform_inputs(inputs))[0]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits at the shallowest level's stride, (N, out_channels, H, W)."""
        return self.cls_seg(self._forward_feature(inputs))
