"""The papers' vocabulary: blocks, nodes, aggregations and upsampling."""

from .aggregation import HDA, IDA, AggregationNode, DenseMaxPool2d
from .blocks import BasicBlock, Bottleneck, Res2NetBlock, SplitBottleneck
from .recompute import recompute
from .upsampling import BilinearUpsample, LearnedUpsample, bilinear_kernel, match_size

__all__ = [
    'HDA',
    'IDA',
    'AggregationNode',
    'BasicBlock',
    'BilinearUpsample',
    'Bottleneck',
    'DenseMaxPool2d',
    'LearnedUpsample',
    'Res2NetBlock',
    'SplitBottleneck',
    'bilinear_kernel',
    'match_size',
    'recompute',
]
