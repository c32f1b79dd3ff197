"""Attentive feature aggregation: the decoder of AFA-DLA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers.attention import AttentiveNode, LevelFusion
from ..layers.conv import conv_activated
from .ida_up import IDAUp


@MODELS.register_module()
class AFAUp(IDAUp):
    r"""Attentive IDA-up: the nested :class:`IDAUp` with attentive nodes, and a fusion of its steps.

    Each step ends with a map at the stride of a level, from the second deepest to the shallowest. The
    last ``num_fused`` of these are fused by attention, see :class:`mmdla.models.layers.LevelFusion`.
    With levels of strides 2, 4, 8, 16 and 32 the steps end at strides 16, 8, 4 and 2, and the last
    three are fused at stride 2.

    Args:
        in_channels (Sequence[int]): Channels of the levels, shallowest first; two or more.
        strides (Sequence[int], optional): Their strides, each a multiple of the one before. Default:
            each twice the one before.
        num_fused (int): Maps to fuse; fewer where there are fewer steps. Default: 3, as released.
        upsample (str): ``'deconv'`` or ``'bilinear'``. Default: ``'deconv'``.
        node (dict | str | Callable): The nodes: further arguments of
            :class:`mmdla.models.layers.AttentiveNode`, or with a ``type`` the registry entry of
            another; or its name, or what builds one. Default: ``{}``.
        with_cp (bool | str): Recompute each step and the fusion in backward instead of storing what is
            inside (True), or only what is cheap (``'norm'``). Default: False.
        conv_cfg (dict, optional): Convolutions. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Networks trained with InPlace-ABN, as six of the seven published
            ones, need ``dict(type='LeakyReLU', negative_slope=0.01)``. Default: ``dict(type='ReLU')``.
        init_cfg (dict | list[dict], optional): Default: that of :class:`IDAUp`.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.
        RuntimeError: If ``with_cp='norm'`` and PyTorch is older than 2.4.

    Source: Section 3.2, Figure 4; released ``AFADLAUp`` and ``DLAUp``. The released ``afa_ida_i`` is
    ``ida_i``, with ``sa_j`` and ``ca_j`` in its ``node_j``; ``proj_j``, ``level_sa`` and ``level_ca``
    are in ``fusion``.

    Example:
        >>> import torch
        >>> from mmdla.models import AFAUp
        >>> neck = AFAUp([64, 128, 256, 512])
        >>> levels = [torch.rand(2, c, *s) for c, s in zip(
        ...     (64, 128, 256, 512), ((57, 101), (29, 51), (15, 26), (8, 13)))]
        >>> for x in neck(levels):
        ...     print(tuple(x.shape))
        (2, 256, 15, 26)
        (2, 128, 29, 51)
        (2, 64, 57, 101)
        (2, 64, 57, 101)
    """

    default_node = AttentiveNode

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int] | None = None,
        num_fused: int = 3,
        upsample: str = 'deconv',
        node: dict | str | Callable = {},
        with_cp: bool | str = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU'),
        init_cfg: dict | list[dict] | None = None,
    ):
        if type(num_fused) is not int or num_fused < 1:
            raise ValueError(f'num_fused={num_fused!r}: must be a whole number, 1 or more')
        super().__init__(
            in_channels,
            strides,
            upsample=upsample,
            node=node,
            with_cp=with_cp,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            init_cfg=init_cfg,
        )
        ends = self.in_channels[-2::-1]
        # What a step ends with, deepest first, and the fusion's.
        self.out_channels = (*ends, ends[-1])
        self.fusion = LevelFusion(
            ends[-num_fused:], conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg
        )

    @staticmethod
    def _project(variant: str, layers: dict) -> Callable[[int, int], nn.Module]:
        return partial(conv_activated, **layers)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Aggregate the levels.

        Args:
            inputs (Sequence[Tensor]): The levels, shallowest first.

        Returns:
            tuple[Tensor]: What each step ends with, deepest first, and last, where mmseg's heads look
            by default, the fusion. ``out_channels`` has their channels.
        """
        self._check_number(inputs)
        ends = self._ends(inputs)
        return (*ends, self._run(self.fusion, ends[-self.fusion.inputs :]))

    def attention(self, inputs: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """The attention maps, for figures.

        Args:
            inputs (Sequence[Tensor]): The levels, shallowest first.

        Returns:
            dict[str, tuple[Tensor, Tensor]]: Over pixels (N, 1, H, W) and channels (N, C, 1, 1). Those
            of a node are called as it is, ``'ida_2.node_1'``, and are its spatial attention to the
            shallower and its channel attention to the deeper input. What each fused level counts, 0 the
            coarsest, is called ``'fusion.0'`` ...

        Raises:
            ValueError: If the nodes are others and have no method ``attention``.
        """
        self._check_number(inputs)
        found, ends = {}, []
        for number, (step, taken, outs) in enumerate(self._steps(inputs)):
            ends.append(outs[-1])
            for i, deep in enumerate(step.align(taken)[1:], 1):
                node: Any = getattr(step, f'node_{i}')
                if not hasattr(node, 'attention'):
                    raise ValueError(f'node: {type(node).__name__} has no method attention to ask')
                (found[f'ida_{number}.node_{i}'],) = node.attention(outs[i - 1], deep)
        levels = self.fusion.attention(ends[-self.fusion.inputs :])
        return found | {f'fusion.{i}': maps for i, maps in enumerate(levels)}
