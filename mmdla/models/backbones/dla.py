"""Deep Layer Aggregation networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import BLOCKS, FORMS, HDA, Chain, as_tuple, layer_builder, node_builder
from ..layers.conv import conv_level, conv_norm_act, find_conv
from .levels import LevelBackbone, rename_keys

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
# The authors' second file of DLA-34, which AFA-DLA starts from, where they had it. That server is gone,
# and no copy is known.
TRICKS = 'http://dl.yf.io/dla/models/imagenet/dla34+tricks-24a49e58.pth'


@MODELS.register_module()
class DLA(LevelBackbone):
    """DLA: a network of hierarchical trees, joined by iterative aggregation.

    The network has levels 0 to 5. A 7x7 convolution and level 0 keep the image's size; each later level
    halves it. Levels 2 to 5 are :class:`~mmdla.models.layers.HDA` trees, or stages of another form of
    the paper's Figure 2; levels 3 to 5 also aggregate their pooled input. A level of stride ``s`` is
    ``ceil(H / s)`` high, so every image size works.

    Source: "Deep Layer Aggregation", https://arxiv.org/abs/1707.06484, Table 1. Parameter names are
    the released ones. Loading a released file drops, by name, the classifier, the projections that
    the released trees compute and throw away, and levels that were not built.

    Args:
        arch (str | dict): ``'34'``, ``'46_c'``, ``'46x_c'``, ``'60'``, ``'60x'``, ``'60x_c'``,
            ``'102'``, ``'102x'``, ``'102x2'``, ``'169'``, ``'60_res2net'`` or ``'60_res2next'``; or a
            dict with

            - ``block`` (str | dict | Callable): ``'basic'``, ``'bottleneck'``, ``'split'``,
              ``'res2net'``; or the name in a registry of any other block; or a dict of such a
              ``type`` and further arguments; or a callable that builds a block (see
              ``layers/blocks.py``);
            - ``tree_depths`` (Sequence[int]): depths of the trees of levels 2-5; a tree of depth ``n``
              has ``2 ** n`` blocks;
            - ``channels`` (Sequence[int]): channels of levels 0-5;
            - ``num_convs`` (Sequence[int]): convolutions in levels 0 and 1. Default: ``(1, 1)``;
            - ``residual_nodes`` (bool): aggregation nodes add their deepest input. Default: False.

            Default: ``'34'``.
        in_channels (int): Channels of the image. Default: 3.
        out_indices (Sequence[int]): Levels to return, ascending. Levels past the last are not built.
            Default: ``(2, 3, 4, 5)``, strides 4 to 32 as in ResNet, so existing heads work unchanged.
        strides (Sequence[int]): Strides of levels 0-5, each 1 or 2. Small images need fewer strides
            of 2: ``(1, 1, 1, 2, 2, 2)`` turns 32x32 pixels into a 4x4 map. A stride that would exceed
            ``output_stride`` becomes dilation. Default: ``(1, 2, 2, 2, 2, 2)``.
        output_stride (int): Largest stride of a level: 32, 16 or 8. Dilation replaces later strides, so
            that the network computes the same function more densely: every second (fourth) value
            equals the one at stride 32. Default: 32.
        aggregation (str | dict | Callable): How the blocks of a level are joined, Figure 2:
            ``'none'`` (a), ``'shallow'`` skips (b), ``'ida'`` (c), ``'tree'`` (d), ``'reentrant'``
            tree (e), ``'hda'`` (f); or the registry entry or callable of another stage, built like
            :class:`~mmdla.models.layers.HDA`. Blocks, channels and depths stay as they are.
            Default: ``'hda'``.
        link_levels (bool, optional): Whether levels 3 to 5 also aggregate their pooled input, which is
            the iterative aggregation between levels. Default: True, as released, except with
            ``aggregation='none'``, which has no node for it.
        node (dict | str | Callable): The nodes: further arguments of
            :class:`~mmdla.models.layers.AggregationNode`, such as ``dict(kernel_size=3, bias=True)``,
            or with a ``type`` the registry entry of another; or its name, or a callable that builds
            one (see ``layers/nodes.py``). Default: ``{}``, 1x1 without bias, as released.
        frozen_stages (int): Levels 0 to ``frozen_stages``, and the 7x7 convolution before them, take
            no gradient and keep their batch-norm statistics. Default: -1, none.
        norm_eval (bool): Keep all batch norms in evaluation mode while training. Default: False.
        with_cp (bool | str | Sequence[int]): Activation recomputation; results do not change. True
            stores only the input of each level and recomputes the level in backward: a third more time
            for a fraction of the memory. Numbers of levels do so for these levels only; the shallow
            ones have the largest maps. ``'norm'`` stores the outputs of convolutions and recomputes
            cheap activations: normalization, activation, concatenation. Level 0 includes the 7x7
            convolution. Default: False.
        conv_cfg (dict, optional): Convolutions. Default: plain.
        norm_cfg (dict): Normalization. Default: ``dict(type='BN')``.
        act_cfg (dict): Activation. Default: ``dict(type='ReLU')``.
        init_cfg (dict | list[dict], optional): Initialization. ``dict(type='Pretrained',
            checkpoint=PATH_OR_URL)`` takes the authors' files, timm's (pickle or safetensors) and
            those of any model that contains this network; ``checkpoint='timm'`` downloads the published
            weights of ``arch``, and ``'tricks'`` is the authors' second file of DLA-34, see
            ``docs/weights.md``. A file that lacks a part of the network is an error, unless the dict
            has ``strict=False``, which initializes that part. Default: None, the paper's
            initialization: normal with variance 2 / (k^2 out_channels). Layers and blocks with an
            initialization of their own keep it.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.
        RuntimeError: If ``with_cp='norm'`` and PyTorch is older than 2.4.

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
        '34': dict(block='basic', tree_depths=(1, 2, 2, 1), channels=(16, 32, 64, 128, 256, 512)),
        '46_c': dict(block='bottleneck', tree_depths=(1, 2, 2, 1), channels=COMPACT),
        '46x_c': dict(block='split', tree_depths=(1, 2, 2, 1), channels=COMPACT),
        '60x_c': dict(block='split', tree_depths=(1, 2, 3, 1), channels=COMPACT),
        '60': dict(block='bottleneck', tree_depths=(1, 2, 3, 1), channels=LARGE),
        '60x': dict(block='split', tree_depths=(1, 2, 3, 1), channels=LARGE),
        '102': dict(block='bottleneck', tree_depths=(1, 3, 4, 1), channels=LARGE, residual_nodes=True),
        '102x': dict(block='split', tree_depths=(1, 3, 4, 1), channels=LARGE, residual_nodes=True),
        '102x2': dict(
            block=dict(type='split', groups=64),
            tree_depths=(1, 3, 4, 1),
            channels=LARGE,
            residual_nodes=True,
        ),
        '169': dict(block='bottleneck', tree_depths=(2, 3, 5, 1), channels=LARGE, residual_nodes=True),
        '60_res2net': dict(block='res2net', tree_depths=(1, 2, 3, 1), channels=LARGE),
        '60_res2next': dict(
            block=dict(type='res2net', groups=8, base_width=4),
            tree_depths=(1, 2, 3, 1),
            channels=LARGE,
        ),
    }
    level_name = 'level{}'
    # timm's copies of the published ImageNet weights (BSD-3-Clause), for configs to name.
    pretrained_urls = {arch: TIMM.format(f'dla{arch}') for arch in arch_settings}
    published = {'timm': pretrained_urls, 'tricks': {'34': TRICKS}}

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
        with_cp: bool | str | Sequence[int] = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU'),
        init_cfg: dict | list[dict] | None = None,
    ):
        if isinstance(arch, int):  # from `--cfg-options model.backbone.arch=34`
            arch = str(arch)
        settings = self._settings(arch)
        find_conv(conv_cfg)
        stage = layer_builder(aggregation, 'aggregation', FORMS, STAGE_ARGUMENTS)
        super().__init__(range(6), out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        name = self.pretrained['checkpoint'] if self.pretrained else None
        if self.pretrained and name in self.published:
            urls = self.published[name]
            if isinstance(arch, Mapping):
                raise ValueError(f'init_cfg: checkpoint={name!r} needs an arch with a name, not a dict')
            if not (isinstance(stage.func, type) and issubclass(stage.func, HDA)):
                raise ValueError(
                    f"init_cfg: checkpoint={name!r} needs aggregation='hda', not {aggregation!r}: the "
                    'published networks are of this form'
                )
            if arch not in urls:
                raise ValueError(
                    f'init_cfg: checkpoint={name!r} needs arch={" or ".join(map(repr, urls))}, not '
                    f'{arch!r}'
                )
            self.pretrained['checkpoint'] = urls[arch]
        self.arch = settings
        depths = settings['num_convs'] + settings['tree_depths']
        self.channels = settings['channels']
        strides = as_tuple('strides', strides)
        if len(strides) != len(depths) or not all(type(s) is int and s in (1, 2) for s in strides):
            raise ValueError(
                f'strides={strides}: must be six, one for each of levels 0 to 5, of 1 or 2'
            )
        if output_stride not in (8, 16, 32):
            raise ValueError(f'output_stride={output_stride}: must be 8, 16 or 32')

        convs: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        layers = dict(convs, act_cfg=act_cfg)
        self.link_levels = self._check_link_levels(link_levels, stage)
        block = self._block(settings['block'], layers, dilated=output_stride < 32)
        node = node_builder(node, residual=settings['residual_nodes'], **layers)

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
        """A checked copy of the table's entry, or of a user's dict with its defaults filled in."""
        if isinstance(arch, Mapping):
            arch = cls._renamed(arch)
        needed = ('block', 'tree_depths', 'channels')
        settings = cls._complete(arch, needed, dict(num_convs=(1, 1), residual_nodes=False))
        for key, levels in (('num_convs', '01'), ('tree_depths', '2345'), ('channels', '012345')):
            values = settings[key] = as_tuple(f'arch[{key!r}]', settings[key])
            if len(values) != len(levels) or not all(isinstance(v, int) and v > 0 for v in values):
                raise ValueError(
                    f'arch[{key!r}]={values}: must be {len(levels)} positive integers, one for each of '
                    f'levels {levels[0]} to {levels[-1]}'
                )
        return settings

    @staticmethod
    def _renamed(arch: Mapping) -> dict:
        """An architecture whose deprecated keys are renamed."""
        arch = rename_keys(arch, dict(residual='residual_nodes'))
        if 'depths' in arch:  # one key for the convolutions of levels 0 and 1 and for the trees
            arch = rename_keys(arch, dict(depths='tree_depths'))
            depths = as_tuple("arch['depths']", arch['tree_depths'])
            arch |= dict(num_convs=depths[:2], tree_depths=depths[2:])
        return arch

    @staticmethod
    def _check_link_levels(link_levels: bool | None, stage: partial) -> bool:
        has_nodes = stage.func is not Chain or 'aggregation' in stage.keywords
        if link_levels and not has_nodes:
            raise ValueError(
                "link_levels=True: aggregation='none' has no node to take the input; leave it out"
            )
        return has_nodes if link_levels is None else link_levels

    @staticmethod
    def _block(spec: str | dict | Callable, layers: dict, dilated: bool) -> Callable:
        """A callable that builds a block, from ``arch['block']``."""
        needs = ['in_channels', 'out_channels', 'stride']
        if dilated:
            needs += ['dilation', 'first_dilation']
        return layer_builder(spec, "arch['block']", BLOCKS, needs, layers)

    def stem(self, x: Tensor) -> Tensor:
        """The 7x7 convolution before level 0."""
        return self.base_layer(x)

    def stem_modules(self) -> list[nn.Module]:
        """The modules that :meth:`stem` runs."""
        return [self.base_layer]
