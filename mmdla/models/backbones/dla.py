"""Deep Layer Aggregation networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import BLOCKS, FORMS, HDA, Chain, factory, node_factory, sequence
from ..layers.conv import conv_level, conv_norm_act, find_conv
from .levels import LevelBackbone

STAGE_ARGUMENTS = [
    'depth',
    'block',
    'in_channels',
    'out_channels',
    'stride',
    'dilation',
    'first_dilation',
    'aggregate_input',
    'node',
    'conv_cfg',
    'norm_cfg',
]

LARGE = (16, 32, 128, 256, 512, 1024)
COMPACT = (16, 32, 64, 64, 128, 256)
TIMM = 'https://huggingface.co/timm/{}.in1k/resolve/main/model.safetensors'


@MODELS.register_module()
class DLA(LevelBackbone):
    """DLA: a network of hierarchical trees, joined by iterative aggregation.

    Six levels, counted from 0. A 7x7 convolution and level 0 keep the image's size, level 1 halves
    it, levels 2 to 5 halve it once more each: they are :class:`~mmdla.models.layers.HDA` trees, or
    stages of another form of the paper's Figure 2, and levels 3 to 5 aggregate their pooled input
    too. A level of stride ``s`` is ``ceil(H / s)`` high: every image size works.

    Source: "Deep Layer Aggregation", https://arxiv.org/abs/1707.06484, Table 1. Parameter names are
    the released ones. Loading a released file drops, by name, the classifier, the projections that
    the released trees compute and throw away, and levels that were not built.

    Args:
        arch (str | dict): ``'34'``, ``'46_c'``, ``'46x_c'``, ``'60'``, ``'60x'``, ``'60x_c'``,
            ``'102'``, ``'102x'``, ``'102x2'``, ``'169'``, ``'60_res2net'`` or ``'60_res2next'``; or a
            dict with

            - ``block`` (str | dict | Callable): ``'basic'``, ``'bottleneck'``, ``'split'``,
              ``'res2net'``; or the name in a registry of any other block; or a dict of such a
              ``type`` and further arguments; or what builds a block (see ``layers/blocks.py``);
            - ``depths`` (Sequence[int]): convolutions in levels 0 and 1; levels 2-5 have
              ``2 ** depth`` blocks;
            - ``channels`` (Sequence[int]): channels of levels 0-5;
            - ``residual`` (bool): residual nodes. Default: False.

            Default: ``'34'``.
        in_channels (int): Channels of the image. Default: 3.
        out_indices (Sequence[int]): Levels to return, ascending. Those past the last are not built.
            Default: ``(2, 3, 4, 5)``, strides 4 to 32.
        strides (Sequence[int]): Strides of levels 0-5, each 1 or 2. Small images want fewer of 2:
            ``(1, 1, 1, 2, 2, 2)`` leaves a 4x4 map of 32x32 pixels. What would exceed
            ``output_stride`` becomes dilation. Default: ``(1, 2, 2, 2, 2, 2)``.
        output_stride (int): 32, 16 or 8: the stride that no level exceeds. Dilation takes the place
            of the later strides so that the network computes the same function, more densely:
            every second (fourth) value is what stride 32 gives. Default: 32.
        aggregation (str | dict | Callable): How the blocks of a level are joined, Figure 2:
            ``'none'`` (a), ``'shallow'`` skips (b), ``'ida'`` (c), ``'tree'`` (d), ``'reentrant'``
            tree (e), ``'hda'`` (f); or the registry entry or callable of another stage, built like
            :class:`~mmdla.models.layers.HDA`. Blocks, channels and depths stay as they are.
            Default: ``'hda'``.
        link_levels (bool, optional): Aggregate, in levels 3 to 5, the pooled input too: iterative
            aggregation from level to level. Default: True, as released, but for ``'none'``, which has
            no node to take it.
        node (dict | str | Callable): The nodes: further arguments of
            :class:`~mmdla.models.layers.AggregationNode`, such as ``dict(kernel_size=3, bias=True)``,
            or with a ``type`` the registry entry of another; or its name, or what builds one (see
            ``layers/aggregation.py``). Default: ``{}``, 1x1 without bias, as released.
        frozen_stages (int): Levels 0 to ``frozen_stages``, and the 7x7 convolution before them, take
            no gradient and keep their batch-norm statistics. Default: -1, none.
        norm_eval (bool): Keep all batch norms in evaluation mode while training. Default: False.
        with_cp (bool | Sequence[int]): Keep each level's input only and recompute the rest in backward:
            a third more time for a fraction of the memory, the same result. Or the numbers of the
            levels to do this with: the shallow ones have the largest maps. With level 0 goes
            the 7x7 convolution before it. Default: False.
        conv_cfg (dict, optional): Convolutions. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.
        init_cfg (dict | list[dict], optional): Initialization. ``dict(type='Pretrained',
            checkpoint=PATH_OR_URL)`` takes the authors' files, timm's (pickle or safetensors) and
            those of any model with this network in it; ``checkpoint='timm'`` fetches the published
            weights of ``arch``. A file with less than the whole network is an error, unless the dict
            has ``strict=False``. Default, and what a checkpoint lacks then: the paper's, normal with
            variance 2 / (k^2 out_channels); layers and blocks with an initialization of their own
            keep it.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.

    Example:
        >>> import torch
        >>> from mmdla.models import DLA
        >>> model = DLA('34').eval()
        >>> for level in model(torch.rand(1, 3, 225, 401)):
        ...     print(tuple(level.shape))
        (1, 64, 57, 101)
        (1, 128, 29, 51)
        (1, 256, 15, 26)
        (1, 512, 8, 13)
    """

    arch_settings = {
        '34': dict(block='basic', depths=(1, 1, 1, 2, 2, 1), channels=(16, 32, 64, 128, 256, 512)),
        '46_c': dict(block='bottleneck', depths=(1, 1, 1, 2, 2, 1), channels=COMPACT),
        '46x_c': dict(block='split', depths=(1, 1, 1, 2, 2, 1), channels=COMPACT),
        '60x_c': dict(block='split', depths=(1, 1, 1, 2, 3, 1), channels=COMPACT),
        '60': dict(block='bottleneck', depths=(1, 1, 1, 2, 3, 1), channels=LARGE),
        '60x': dict(block='split', depths=(1, 1, 1, 2, 3, 1), channels=LARGE),
        '102': dict(block='bottleneck', depths=(1, 1, 1, 3, 4, 1), channels=LARGE, residual=True),
        '102x': dict(block='split', depths=(1, 1, 1, 3, 4, 1), channels=LARGE, residual=True),
        '102x2': dict(
            block=dict(type='split', groups=64),
            depths=(1, 1, 1, 3, 4, 1),
            channels=LARGE,
            residual=True,
        ),
        '169': dict(block='bottleneck', depths=(1, 1, 2, 3, 5, 1), channels=LARGE, residual=True),
        '60_res2net': dict(block='res2net', depths=(1, 1, 1, 2, 3, 1), channels=LARGE),
        '60_res2next': dict(
            block=dict(type='res2net', groups=8, base_width=4),
            depths=(1, 1, 1, 2, 3, 1),
            channels=LARGE,
        ),
    }
    level_name = 'level{}'
    # timm's copies of the published ImageNet weights (BSD-3-Clause), for configs to name.
    pretrained_urls = {arch: TIMM.format(f'dla{arch}') for arch in arch_settings}

    def __init__(
        self,
        arch: str | dict = '34',
        in_channels: int = 3,
        out_indices: Sequence[int] = (2, 3, 4, 5),
        strides: Sequence[int] = (1, 2, 2, 2, 2, 2),
        output_stride: int = 32,
        aggregation: str | dict | Callable = 'hda',
        link_levels: bool | None = None,
        node: str | dict | Callable = {},
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool | Sequence[int] = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU'),
        init_cfg: dict | list[dict] | None = None,
    ):
        if isinstance(arch, int):  # what `--cfg-options model.backbone.arch=34` gives
            arch = str(arch)
        settings = self._settings(arch)
        find_conv(conv_cfg)
        stage = factory(aggregation, 'aggregation', FORMS, STAGE_ARGUMENTS)
        super().__init__(range(6), out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        if self.pretrained and self.pretrained['checkpoint'] == 'timm':
            if isinstance(arch, Mapping):
                raise ValueError("init_cfg: checkpoint='timm' needs an arch with a name, not a dict")
            if not (isinstance(stage.func, type) and issubclass(stage.func, HDA)):
                raise ValueError(
                    f"init_cfg: checkpoint='timm' needs aggregation='hda', not {aggregation!r}: the "
                    'published networks are of this form'
                )
            self.pretrained['checkpoint'] = self.pretrained_urls[arch]
        self.arch = settings
        depths, self.channels = settings['depths'], settings['channels']
        strides = sequence('strides', strides)
        if len(strides) != len(depths) or not all(type(s) is int and s in (1, 2) for s in strides):
            raise ValueError(
                f'strides={strides}: must be six, one for each of levels 0 to 5, of 1 or 2'
            )
        if output_stride not in (8, 16, 32):
            raise ValueError(f'output_stride={output_stride}: must be 8, 16 or 32')

        convs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        layers = dict(convs, act_cfg=act_cfg)
        self.link_levels = self._check_link_levels(link_levels, stage)
        block = self._block(settings['block'], layers, dilated=output_stride < 32)
        node = node_factory(node, residual=settings['residual'], **layers)

        width = self.channels[0]
        self.base_layer = conv_norm_act(in_channels, width, 7, **layers)
        stride, dilation = 1, 1
        levels = zip(depths, self.channels, strides)
        for i, (depth, out_channels, level_stride) in enumerate(levels):
            if i > self.out_indices[-1]:
                break
            first_dilation = dilation
            if stride * level_stride > output_stride:
                level_stride, dilation = 1, dilation * 2
            stride *= level_stride
            if i < 2:
                level = conv_level(width, out_channels, depth, level_stride, **layers)
            else:
                level = stage(
                    depth=depth,
                    block=block,
                    in_channels=width,
                    out_channels=out_channels,
                    stride=level_stride,
                    dilation=dilation,
                    first_dilation=first_dilation,
                    aggregate_input=i > 2 and self.link_levels,
                    node=node,
                    **convs,
                )
            self.add_module(f'level{i}', level)
            width = out_channels
        self._freeze()

    @classmethod
    def _settings(cls, arch: str | dict) -> dict:
        """A copy of the table's entry, or of the dict given, complete and checked."""
        settings = cls._complete(arch, dict(residual=False))
        for key in ('depths', 'channels'):
            values = settings[key] = sequence(f'arch[{key!r}]', settings[key])
            if len(values) != 6 or not all(isinstance(v, int) and v > 0 for v in values):
                raise ValueError(
                    f'arch[{key!r}]={values}: must be six positive integers, one for each of levels '
                    '0 to 5'
                )
        return settings

    @staticmethod
    def _check_link_levels(link_levels: bool | None, stage: Callable) -> bool:
        has_nodes = stage.func is not Chain or 'aggregation' in stage.keywords
        if link_levels and not has_nodes:
            raise ValueError(
                "link_levels=True: aggregation='none' has no node to take the input; leave it out"
            )
        return has_nodes if link_levels is None else link_levels

    @staticmethod
    def _block(spec: str | dict | Callable, layers: dict, dilated: bool) -> Callable:
        """What builds a block, from ``arch['block']``."""
        needs = ['in_channels', 'out_channels', 'stride']
        if dilated:
            needs += ['dilation', 'first_dilation']
        return factory(spec, "arch['block']", BLOCKS, needs, layers)

    def stem(self, x: Tensor) -> Tensor:
        """The 7x7 convolution before level 0."""
        return self.base_layer(x)

    def stem_modules(self) -> list[nn.Module]:
        """The modules that :meth:`stem` runs."""
        return [self.base_layer]
