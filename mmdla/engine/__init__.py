"""What the training and testing loops lack."""

from .hooks import FiniteLossHook, SeedIterationsHook, WholeCheckpointHook
from .loops import ValThenTestLoop
from .optim_wrapper import CPUAmpOptimWrapper

__all__ = [
    'CPUAmpOptimWrapper',
    'FiniteLossHook',
    'SeedIterationsHook',
    'ValThenTestLoop',
    'WholeCheckpointHook',
]
