"""What the training and testing loops lack."""

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
