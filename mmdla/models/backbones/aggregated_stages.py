"""The aggregations of Figure 2 around the stages of any other network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from mmengine.model import BaseModule, Sequential
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import FORMS, PooledNode, as_tuple, layer_builder, node_builder


@MODELS.register_module()
class AggregatedStages(BaseModule):
    """Aggregates the stages of any network by one of the forms of Figure 2.

    The stages are the blocks of the figure. Each node max-pools its inputs to the size of the deepest.
    With ``'reentrant'`` and ``'hda'``, the input of a stage is an aggregation of the earlier stages in
    place of the previous stage's output, with the same number of channels. Weights that were trained
    without aggregation may then need fine-tuning.

    Args:
        stages (Sequence[nn.Module | dict]): 2, 4, 8, ... stages, the modules or their configs; each
            takes the output of the one before.
        channels (Sequence[int]): Channels of each stage's output.
        stem (nn.Module | dict, optional): Layers before the first stage. Default: None.
        aggregation (str): ``'none'``, ``'shallow'``, ``'ida'``, ``'tree'``, ``'reentrant'`` or
            ``'hda'``. Default: ``'hda'``.
        node (dict | str | Callable): Nodes, as in :class:`~mmdla.models.DLA`. Default: ``{}``.
        norm_cfg (dict): Normalization of the nodes. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation of the nodes. Default: ``dict(type='ReLU')``.
        init_cfg (dict | list[dict], optional): As in mmengine; stages and nodes with an
            initialization of their own keep it. Default: None.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Example:
        >>> import torch
        >>> from mmpretrain.models import ResNet
        >>> from mmdla.models import AggregatedStages
        >>> net = ResNet(18)
        >>> model = AggregatedStages(
        ...     stages=[net.layer1, net.layer2, net.layer3, net.layer4],
        ...     channels=[64, 128, 256, 512],
        ...     stem=torch.nn.Sequential(net.conv1, net.norm1, net.relu, net.maxpool))
        >>> model(torch.rand(1, 3, 97, 65))[0].shape
        torch.Size([1, 512, 4, 3])
    """

    def __init__(
        self,
        stages: Sequence[nn.Module | dict],
        channels: Sequence[int],
        stem: nn.Module | dict | None = None,
        aggregation: str = 'hda',
        node: str | dict | Callable = {},
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU'),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        stages, channels = as_tuple('stages', stages), as_tuple('channels', channels)
        depth = len(stages).bit_length() - 1
        if depth < 1 or len(stages) != 2**depth:
            raise ValueError(f'stages: {len(stages)} of them; must be 2, 4, 8, ...')
        if len(channels) != len(stages):
            raise ValueError(
                f'channels={list(channels)}: must be {len(stages)}, one for each of stages'
            )
        self.stem = _built(stem) if stem is not None else nn.Identity()
        node = node_builder(node, norm_cfg=norm_cfg, act_cfg=act_cfg)
        stage = layer_builder(aggregation, 'aggregation', FORMS, needs=['depth', 'block', 'node'])
        remaining = iter(stages)
        self.stages = stage(
            depth=depth,
            block=lambda **_: _built(next(remaining)),
            # The first stage has its own stem, so this is not the width of its input.
            in_channels=channels[0],
            out_channels=list(channels),
            node=partial(PooledNode, node=node),
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The aggregation, one map of the last stage's stride and width."""
        return (self.stages(self.stem(x)),)


def _built(module: nn.Module | dict) -> nn.Module:
    if type(module) is nn.Sequential:
        # mmengine's, of the same names, hands initialization on to what is in it.
        return Sequential(OrderedDict(module.named_children()))
    if isinstance(module, nn.Module):
        return module
    if not isinstance(module, dict):
        raise TypeError(f'stages, stem: {module!r}; each must be a module or its config')
    return MODELS.build(module)
