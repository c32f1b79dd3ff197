"""Runs that can be repeated: what is random about a sample follows from the seed and its place.

A data loader's processes draw from generators of their own, whose states no checkpoint holds, and so a
resumed run sees other crops than the run that it goes on from. Here every use of a sample is numbered,
and the generators are seeded by its number before it is read. Then neither the number of processes, nor
how the samples are spread over GPUs, nor an interruption changes what the network sees.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Dataset, Sampler

from .samples import SampleChecks


def seed_all(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch by some numbers, as a run's seed and an iteration's number.

    Args:
        *numbers (int): Not negative. Another order is another seed.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the transforms draw from it
    torch.manual_seed(seed)


class Draw(int):
    """Index of a sample that knows where in the run it stands.

    Attributes:
        place (tuple[int, int, int]): Seed of the sampler, epoch, number within the epoch, over all
            processes.
    """

    place: tuple[int, int, int]

    def __new__(cls, index: int, place: tuple[int, int, int] = (0, 0, 0)):
        draw = super().__new__(cls, index)
        draw.place = place
        return draw


class NumberedSampler(Sampler):
    r"""A sampler's indices, each a :class:`Draw`.

    Process r of W takes every W-th index, and so its n-th one has the number :math:`n W + r`: that of
    the same sample where one process takes them all.

    Args:
        sampler (dict | Sampler): The sampler, of mmengine's kind, or its config.
        dataset (Dataset, optional): What a config is built with.
        seed (int, optional): What a config is built with. Default: mmengine's choice.
    """

    def __init__(
        self, sampler: dict | Sampler, dataset: Dataset | None = None, seed: int | None = None
    ):
        if isinstance(sampler, dict):
            sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        self.sampler = sampler
        self.seed = getattr(sampler, 'seed', None) or seed or 0
        self.start = 0
        if hasattr(sampler, 'skip'):  # mmengine asks whether it is there
            self.skip = self._skip

    def __iter__(self) -> Iterator[Draw]:
        rank, world_size = get_dist_info()
        epoch = getattr(self.sampler, 'epoch', 0)
        for n, index in zip(count(self.start), self.sampler):
            yield Draw(index, (self.seed, epoch, n * world_size + rank))

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        # Batch samplers ask for the data set, hooks for `set_epoch`.
        if name == 'sampler':
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def _skip(self, num_samples: int) -> None:
        """Begin after so many indices of this process."""
        self.sampler.skip(num_samples)
        self.start = num_samples


class SeededReading:
    """How a data loader reads a batch: every sample checked, and seeded by its place.

    Put into a data set as ``__getitems__``, the method that PyTorch's loaders ask for a batch.

    Args:
        dataset (Dataset): The data set.
        checks (SampleChecks): What is asked of its samples.
    """

    def __init__(self, dataset: Dataset, checks: SampleChecks):
        self.dataset = dataset
        self.checks = checks

    def __call__(self, indices: Sequence[int]) -> list:
        """The samples.

        Raises:
            SampleError: If one of them cannot be read, or is not what the network can learn from.
        """
        return [self._read(index) for index in indices]

    def _read(self, index: int) -> Any:
        if isinstance(index, Draw):
            seed_all(*index.place)
        with self.checks.of(self.dataset, int(index)) as check:
            sample = self.dataset[int(index)]
            check(sample)
        return sample
