"""The papers' layers: blocks, aggregation nodes, aggregations, stages, pooling and upsampling.

They need PyTorch, mmengine and ``mmcv.cnn`` only. ``mmpretrain_blocks`` needs mmpretrain too; it is
imported when a config names one of its blocks.
"""

from .aggregation import IDA, AggregationTree, ShallowSkips
from .attention import (
    AttentiveNode,
    ChannelAttention,
    HierarchicalAttention,
    LevelFusion,
    ScaleSpaceRendering,
    SpatialAttention,
)
from .blocks import (
    BLOCKS,
    RESIDUAL_BLOCKS,
    BasicBlock,
    Bottleneck,
    Res2NetBlock,
    ResidualBasicBlock,
    ResidualBottleneck,
    SplitBottleneck,
)
from .builder import as_tuple, layer_builder
from .nodes import AggregationNode, PooledNode, SumNode, node_builder
from .pooling import DenseMaxPool2d
from .recompute import check_selective, recompute
from .stages import FORMS, HDA, Chain, ReentrantTree
from .upsampling import BilinearUpsample, FrozenUpsample, LearnedUpsample, bilinear_kernel, match_size

__all__ = [
    'BLOCKS',
    'FORMS',
    'HDA',
    'IDA',
    'RESIDUAL_BLOCKS',
    'AggregationNode',
    'AggregationTree',
    'AttentiveNode',
    'BasicBlock',
    'BilinearUpsample',
    'Bottleneck',
    'Chain',
    'ChannelAttention',
    'DenseMaxPool2d',
    'FrozenUpsample',
    'HierarchicalAttention',
    'LearnedUpsample',
    'LevelFusion',
    'PooledNode',
    'ReentrantTree',
    'Res2NetBlock',
    'ResidualBasicBlock',
    'ResidualBottleneck',
    'ScaleSpaceRendering',
    'ShallowSkips',
    'SpatialAttention',
    'SplitBottleneck',
    'SumNode',
    'as_tuple',
    'bilinear_kernel',
    'check_selective',
    'layer_builder',
    'match_size',
    'node_builder',
    'recompute',
]
