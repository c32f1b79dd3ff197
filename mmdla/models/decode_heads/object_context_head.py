"""Object-contextual representations at the stride of the up-network: the head of AFA-DLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import FCNHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.ocr_head import ObjectAttentionBlock, SpatialGatherModule
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.utils import SampleList, add_prefix
from torch import Tensor, nn

from ...registry import MODELS


@MODELS.register_module()
@MMSEG_MODELS.register_module()
class ObjectContextHead(BaseDecodeHead):
    r"""mmseg's OCR layers and the auxiliary classifier that they take their regions from, as one head.

    .. math::
        f = \sigma(\mathrm{BN}(W x)), \qquad
        o_k = \sum_p \mathrm{softmax}_p(r_k)\, f(p), \qquad
        y = \mathrm{attention}(f, o)

    where the regions :math:`r` are the logits of ``aux_head``, a pixel's :math:`f` is the query and the
    objects' :math:`o_k` are keys and values. Unlike mmseg's ``OCRHead``, which needs a
    ``CascadeEncoderDecoder``, it is a head of a plain ``EncoderDecoder``.

    Args:
        in_channels (int): Channels of the map.
        num_classes (int): Number of classes.
        channels (int): Channels of :math:`f` and of what is classified. Default: 256, as released.
        ocr_channels (int): Channels of queries, keys and values. Default: 128, as released.
        in_index (int): Which of the neck's outputs to use. Default: -1, the last.
        loss_aux (dict | list[dict]): Losses of ``aux_head``; they are logged as ``regions.``. Default:
            ``CrossEntropyLoss`` with the released weight, 0.4.
        dropout_ratio (float): Dropout of channels of what is classified. Default: 0.05, as released.
        **kwargs: Of :class:`mmseg.models.decode_heads.decode_head.BaseDecodeHead`: losses,
            ``ignore_index``, ``norm_cfg``, ``act_cfg``, ...

    Source: Yuan, Chen, Wang, "Object-Contextual Representations for Semantic Segmentation", ECCV 2020;
    released ``OCR_block``.

    Example:
        >>> import torch
        >>> from mmdla.models import ObjectContextHead
        >>> head = ObjectContextHead(32, num_classes=19).eval()
        >>> head([torch.rand(1, 32, 57, 101)]).shape
        torch.Size([1, 19, 57, 101])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 256,
        ocr_channels: int = 128,
        in_index: int = -1,
        loss_aux: dict | list[dict] = dict(type='CrossEntropyLoss', loss_weight=0.4),
        dropout_ratio: float = 0.05,
        norm_cfg: dict = dict(type='BN'),
        **kwargs: Any,
    ):
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            in_index=in_index,
            dropout_ratio=0,
            norm_cfg=norm_cfg,
            **kwargs,
        )
        layers = dict(conv_cfg=self.conv_cfg, norm_cfg=norm_cfg, act_cfg=self.act_cfg)
        self.bottleneck = ConvModule(in_channels, channels, 3, padding=1, **layers)
        self.spatial_gather_module = SpatialGatherModule(1)
        self.object_context_block = ObjectAttentionBlock(channels, ocr_channels, 1, **layers)
        # Before the features leave, as released: scale-space rendering attends to what is left.
        self.context_dropout = nn.Dropout2d(dropout_ratio)
        self.aux_head = FCNHead(
            in_channels=in_channels,
            channels=in_channels,
            num_classes=num_classes,
            out_channels=self.out_channels,
            num_convs=1,
            kernel_size=1,
            concat_input=False,
            dropout_ratio=0,
            in_index=in_index,
            loss_decode=loss_aux,
            ignore_index=self.ignore_index,
            align_corners=self.align_corners,
            **layers,
        )

    def forward_all(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Everything that is computed, at the map's size.

        Returns:
            tuple[Tensor, Tensor, Tensor]: The logits, the features that they are classified from
            (N, channels, H, W), and the auxiliary logits.
        """
        regions = self.aux_head(inputs)
        feats = self.bottleneck(self._transform_inputs(inputs))
        context = self.spatial_gather_module(feats, regions)
        features = self.context_dropout(self.object_context_block(feats, context))
        return self.cls_seg(features), features, regions

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits at the map's size, (N, out_channels, H, W)."""
        return self.forward_all(inputs)[0]

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: SampleList, train_cfg: dict | None = None
    ) -> dict:
        """Losses of the logits and of the auxiliary ones."""
        logits, _, regions = self.forward_all(inputs)
        losses = self.loss_by_feat(logits, batch_data_samples)
        auxiliary = self.aux_head.loss_by_feat(regions, batch_data_samples)
        return losses | add_prefix(auxiliary, 'regions')
