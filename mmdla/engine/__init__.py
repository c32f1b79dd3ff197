"""Additions to mmengine's training and testing: runner, hooks, loops and resuming."""

from .hooks import (
    AtomicCheckpointHook,
    DatasetValidationHook,
    FiniteLossHook,
    LoadWeightsHook,
    SeedIterationsHook,
)
from .loops import ValThenTestLoop
from .optim_wrapper import CPUAmpOptimWrapper
from .runner import ReproducibleRunner

__all__ = [
    'AtomicCheckpointHook',
    'CPUAmpOptimWrapper',
    'DatasetValidationHook',
    'FiniteLossHook',
    'LoadWeightsHook',
    'ReproducibleRunner',
    'SeedIterationsHook',
    'ValThenTestLoop',
]
