"""Iterative deep aggregation with upsampling: the decoder of DLA for dense prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.utils import deprecated_api_warning
from torch import Tensor, nn

from ..layers import (
    IDA,
    AggregationNode,
    BilinearUpsample,
    LearnedUpsample,
    SumNode,
    as_tuple,
    check_selective,
    match_size,
    node_builder,
    recompute,
)
from ..layers.conv import PAPER_INIT, OwnInit, conv_norm_act, find_conv


class IDAUpStep(OwnInit, IDA):
    r"""IDA over maps of different strides and widths: project, upsample, aggregate.

    Inputs that do not have ``out_channels`` channels are projected. All but the first are upsampled to
    the size of the first. Then all are aggregated iteratively.

    Args:
        in_channels (Sequence[int]): Channels of the inputs, shallowest first.
        out_channels (int): Channels of everything aggregated.
        factors (Sequence[int]): Upsampling factor of each input; the first is 1.
        project (Callable): Builds a projection from its input and output channels.
        node (Callable): Builds a node, see :class:`mmdla.models.layers.IDA`.
        upsample (str): ``'deconv'`` or ``'bilinear'``. Default: ``'deconv'``.
        project_equal (bool): Also project inputs that have ``out_channels`` channels, except the first.
            Default: False.

    Source: Section 4.2; released ``dla_up.py``, ``IDAUp``, whose names its parameters have.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        factors: Sequence[int],
        project: Callable[[int, int], nn.Module],
        node: Callable[..., nn.Module],
        upsample: str = 'deconv',
        project_equal: bool = False,
    ):
        super().__init__([out_channels] * len(in_channels), out_channels, node)
        self.factors = tuple(factors)
        for i, (channels, factor) in enumerate(zip(in_channels, factors)):
            wanted = channels != out_channels or (project_equal and i > 0)
            up: nn.Module = nn.Identity()
            if factor > 1:
                learned = upsample == 'deconv'
                up = LearnedUpsample(out_channels, factor) if learned else BilinearUpsample(factor)
            self.add_module(f'proj_{i}', project(channels, out_channels) if wanted else nn.Identity())
            self.add_module(f'up_{i}', up)

    def align(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Project the inputs and bring them to the first one's size, as the nodes take them."""
        size = inputs[0].shape[2:]
        merged = []
        for i, (x, factor) in enumerate(zip(inputs, self.factors)):
            x = getattr(self, f'up_{i}')(getattr(self, f'proj_{i}')(x))
            merged.append(match_size(x, size, slack=factor - 1) if i else x)
        return merged

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:  # type: ignore[override]
        """The partial aggregations; the last one joins all inputs."""
        return self.partial_aggregations(self.align(inputs))


@MODELS.register_module()
class IDAUp(BaseModule):
    r"""IDA-up: aggregates feature maps of several strides at the stride of the shallowest.

    There are three variants:

    - ``'nested'`` is the released code. It runs one IDA after another over growing suffixes of the
      levels, deepest first, until the width is that of the shallowest level. With levels
      :math:`l_1 \dots l_n`, step :math:`i = 1 \dots n - 1` replaces the last :math:`i` of them by the
      partial aggregations of :math:`(l_{n-i}, \dots, l_n)`.
    - ``'single'`` is the paper's text. Every level is projected to 32 channels and upsampled, and one
      IDA merges them.
    - ``'centernet'`` is used by the CenterNet family. It is ``'nested'`` with 3x3 convolutions with
      bias as projections and nodes that add their inputs. Another IDA, ``ida_up``, then merges the last
      output of each step; these have the strides of all levels but the deepest.

    Args:
        in_channels (Sequence[int]): Channels of the levels, shallowest first; two or more.
        strides (Sequence[int], optional): Strides of the levels, each a multiple of the one before or
            equal to it, as in a dilated backbone. Default: each twice the one before.
        variant (str): ``'nested'``, ``'single'`` or ``'centernet'``. Default: ``'nested'``.
        out_channels (int, optional): Width of ``'single'``. The others have the shallowest level's.
            Default: 32 for ``'single'``.
        upsample (str): ``'deconv'``, learned depthwise transposed convolution that begins as bilinear
            interpolation, or ``'bilinear'``, interpolation. Default: ``'deconv'``.
        node_kernel (int): Kernel of the nodes. Default: 3.
        node (dict | str | Callable): The nodes: further arguments of
            :class:`mmdla.models.layers.AggregationNode` (of ``SumNode`` with ``'centernet'``), or with
            a ``type`` the registry entry of another; or its name, or a callable that builds one.
            Default: ``{}``.
        with_cp (bool | str): Recompute each aggregation in backward instead of storing its activations
            (True), or only its cheap activations (``'norm'``), as in :class:`~mmdla.models.DLA`.
            Default: False.
        conv_cfg (dict, optional): Convolutions of projections and nodes; CenterNet's are
            ``dict(type='DCNv2', deform_groups=1)``, which needs mmcv's compiled ops. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.
        init_cfg (dict | list[dict], optional): Initialization. Default: None, the paper's: normal with
            variance 2 / (k^2 out_channels), and bilinear for upsampling. Layers with an initialization
            of their own, such as DCNv2, keep it.
        all_steps (bool): Return what each step of ``'nested'`` ends with, deepest first, as
            :class:`AFAUp` does, for heads that supervise every stride. Default: False, the last only.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.
        RuntimeError: If ``with_cp='norm'`` and PyTorch is older than 2.4.

    Source: Section 4.2, Figure 4; released ``dla_up.py``, ``DLAUp``, whose names the parameters of
    ``'nested'`` have. ``'centernet'``: Zhou et al., "Objects as Points", 2019; released
    ``pose_dla_dcn.py``, ``DLAUp`` and ``ida_up``, where ``bn`` is called ``actf.0``.

    Example:
        >>> import torch
        >>> from mmdla.models import IDAUp
        >>> neck = IDAUp([64, 128, 256, 512])
        >>> levels = [torch.rand(1, c, *s) for c, s in zip(
        ...     (64, 128, 256, 512), ((57, 101), (29, 51), (15, 26), (8, 13)))]
        >>> [tuple(x.shape) for x in neck(levels)]
        [(1, 64, 57, 101)]
    """

    default_node: Callable[..., nn.Module] = AggregationNode
    out_channels: int | tuple[int, ...]

    @deprecated_api_warning(dict(form='variant'), 'IDAUp')
    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int] | None = None,
        variant: str = 'nested',
        out_channels: int | None = None,
        upsample: str = 'deconv',
        node_kernel: int = 3,
        node: dict | str | Callable = {},
        with_cp: bool | str = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU'),
        init_cfg: dict | list[dict] | None = None,
        all_steps: bool = False,
    ):
        super().__init__(init_cfg or PAPER_INIT)
        self.in_channels = channels = as_tuple('in_channels', in_channels)
        if len(channels) < 2:
            raise ValueError(f'in_channels={channels}: aggregation needs two levels or more')
        if strides is None:
            strides = [2**i for i in range(len(channels))]
        self.strides = self._check_strides(as_tuple('strides', strides), len(channels))
        if variant not in ('nested', 'single', 'centernet'):
            raise ValueError(
                f"variant={variant!r}: must be 'nested' (released), 'single' (the paper's) or "
                "'centernet'"
            )
        if all_steps and variant != 'nested':
            raise ValueError(f"all_steps=True: variant={variant!r} has no steps; it must be 'nested'")
        if upsample not in ('deconv', 'bilinear'):
            raise ValueError(f"upsample={upsample!r}: must be 'deconv' or 'bilinear'")
        if node_kernel % 2 == 0:
            raise ValueError(f'node_kernel={node_kernel}: must be odd')
        if variant != 'single' and out_channels not in (None, channels[0]):
            raise ValueError(
                f"out_channels={out_channels}: variant={variant!r} ends with the shallowest level's "
                f'{channels[0]} channels; leave out_channels out'
            )
        if not check_selective(with_cp) and not isinstance(with_cp, bool | int):
            raise ValueError(f"with_cp={with_cp!r}: must be True, False or 'norm'")
        find_conv(conv_cfg)
        self.variant = variant
        self.all_steps = all_steps
        self.with_cp = with_cp
        layers: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        step = partial(
            IDAUpStep,
            project=self._project(variant, layers),
            node=node_builder(
                node,
                default=SumNode if variant == 'centernet' else self.default_node,
                **layers,
                kernel_size=node_kernel,
                names=('0', '1'),  # released
            ),
            upsample=upsample,
            project_equal=variant == 'centernet',
        )
        if variant == 'single':
            self.out_channels = out_channels or 32
            factors = [s // self.strides[0] for s in self.strides]
            self.ida_0 = step(channels, self.out_channels, factors)
            return
        self.out_channels = channels[0]
        widths, strides = list(channels), list(self.strides)
        for i in range(len(channels) - 1):
            first = len(channels) - 2 - i
            factors = [s // strides[first] for s in strides[first:]]
            self.add_module(f'ida_{i}', step(widths[first:], channels[first], factors))
            # The outputs of this step have its width and stride.
            widths[first:] = [channels[first]] * len(widths[first:])
            strides[first:] = [strides[first]] * len(strides[first:])
        if all_steps:
            self.out_channels = channels[-2::-1]
        if variant == 'centernet':
            factors = [s // self.strides[0] for s in self.strides[:-1]]
            self.ida_up = step(channels[:-1], channels[0], factors)

    @staticmethod
    def _project(variant: str, layers: dict) -> Callable[[int, int], nn.Module]:
        """A callable that builds a projection."""
        if variant == 'centernet':
            # The projection has the layers of a node with a single input.
            return lambda channels, out_channels: SumNode([channels], out_channels, **layers)
        return partial(conv_norm_act, **layers)

    @staticmethod
    def _check_strides(strides: tuple[int, ...], levels: int) -> tuple[int, ...]:
        if len(strides) != levels:
            raise ValueError(f'strides={strides}: must be {levels}, one for each of in_channels')
        if any(s % previous for previous, s in pairwise(strides)):
            raise ValueError(f'strides={strides}: must ascend, each a multiple of the one before')
        return strides

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Aggregate the levels.

        Args:
            inputs (Sequence[Tensor]): The levels, shallowest first.

        Returns:
            tuple[Tensor]: One map, (N, out_channels, H, W) of the shallowest level's size; with
            ``all_steps`` one a step, deepest first, and ``out_channels`` has their channels.
        """
        self._check_number(inputs)
        if self.variant == 'single':
            return (self._run(self.ida_0, list(inputs))[-1],)
        ends = self._ends(inputs)
        if self.variant == 'centernet':
            return (self._run(self.ida_up, ends[::-1])[-1],)
        return tuple(ends) if self.all_steps else (ends[-1],)

    def _check_number(self, inputs: Sequence[Tensor]) -> None:
        if len(inputs) != len(self.in_channels):
            raise ValueError(
                f'inputs: {len(inputs)} feature maps, but in_channels has {len(self.in_channels)} '
                'entries'
            )

    def _steps(
        self, inputs: Sequence[Tensor]
    ) -> Iterator[tuple[IDAUpStep, list[Tensor], list[Tensor]]]:
        """Each nested step, what it takes and what it returns."""
        levels = list(inputs)
        for i in range(len(levels) - 1):
            first = len(levels) - 2 - i
            step, taken = getattr(self, f'ida_{i}'), levels[first:]
            outs = self._run(step, taken)
            # The first output is the level itself; the others take the deeper levels' places.
            levels[first + 1 :] = outs[1:]
            yield step, taken, outs

    def _ends(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The map that each nested step ends with, deepest first."""
        return [outs[-1] for _, _, outs in self._steps(inputs)]

    def _run(self, step: nn.Module, inputs: list[Tensor]) -> Any:
        if self.with_cp:
            return recompute(step, inputs, selective=self.with_cp == 'norm')
        return step(inputs)
