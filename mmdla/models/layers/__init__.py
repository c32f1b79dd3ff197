"""The papers' vocabulary: blocks, nodes, aggregations and upsampling."""

from .aggregation import IDA, AggregationTree, ShallowSkips
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
from .builder import factory, sequence
from .nodes import AggregationNode, PooledNode, SumNode, node_factory
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
    'BasicBlock',
    'BilinearUpsample',
    'Bottleneck',
    'Chain',
    'DenseMaxPool2d',
    'FrozenUpsample',
    'LearnedUpsample',
    'PooledNode',
    'ReentrantTree',
    'Res2NetBlock',
    'ResidualBasicBlock',
    'ResidualBottleneck',
    'ShallowSkips',
    'SplitBottleneck',
    'SumNode',
    'bilinear_kernel',
    'check_selective',
    'factory',
    'match_size',
    'node_factory',
    'recompute',
    'sequence',
]
