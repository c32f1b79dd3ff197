"""SqueezeNet, with which the paper compares its compact networks."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ...registry import check_library

VERSIONS = ('1_0', '1_1')


@MODELS.register_module()
class SqueezeNet(BaseModule):
    """torchvision's SqueezeNet up to its map of class scores, optionally with simple bypass.

    Bypass adds the input of a Fire module to its output where both have the same width: in Fire modules
    3, 5, 7 and 9. It has no parameters. torchvision's weights load unchanged:
    ``init_cfg=dict(type='Pretrained', checkpoint='torchvision://squeezenet1_0')`` loads version 1_0.

    Needs torchvision. Source: "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
    <0.5MB model size", https://arxiv.org/abs/1602.07360, Figure 2.

    Args:
        version (str): ``'1_0'``, the paper's, or ``'1_1'``, a cheaper one of its authors.
            Default: ``'1_0'``.
        bypass (bool): Simple bypass. Default: False.
        num_classes (int): Channels of the output. Default: 1000.
        init_cfg (dict | list[dict], optional): As in mmengine. Default: None, torchvision's
            initialization.

    Raises:
        ValueError: If ``version`` is unknown.
        ImportError: If torchvision is missing.

    Example:
        >>> import torch
        >>> from mmdla.models import SqueezeNet
        >>> SqueezeNet(bypass=True)(torch.rand(1, 3, 224, 224))[0].shape
        torch.Size([1, 1000, 13, 13])
    """

    def __init__(
        self,
        version: str = '1_0',
        bypass: bool = False,
        num_classes: int = 1000,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if version not in VERSIONS:
            raise ValueError(f'version={version!r}: must be one of {", ".join(VERSIONS)}')
        check_library('torchvision', 'mmdla.SqueezeNet')
        from torchvision import models

        network = getattr(models, f'squeezenet{version}')(num_classes=num_classes)
        self.features = network.features
        self.classifier = network.classifier[:-1]  # the neck pools
        fires = {
            i: (layer.squeeze.in_channels, layer.expand1x1.out_channels + layer.expand3x3.out_channels)
            for i, layer in enumerate(self.features)
            if isinstance(layer, models.squeezenet.Fire)
        }
        self.bypassed = {i for i, (before, after) in fires.items() if bypass and before == after}

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Scores of the classes, before pooling: (N, num_classes, H / 16, W / 16), about."""
        for i, layer in enumerate(self.features):
            x = x + layer(x) if i in self.bypassed else layer(x)
        return (self.classifier(x),)
