"""What the training and testing loops lack."""

from .loops import ValThenTestLoop
from .optim_wrapper import CPUAmpOptimWrapper

__all__ = ['CPUAmpOptimWrapper', 'ValThenTestLoop']
