"""Reproducible runs: the randomness of a sample depends only on the seed and its position in the run.

The processes of a data loader have random generators of their own, whose states checkpoints do not
store, so a resumed run would see other crops than an uninterrupted one. Here every sample has a
position in the run, and the generators are seeded by it before the sample is read. The input of the
network then does not depend on the number of processes, the distribution of samples over GPUs, or
interruptions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Dataset, IterableDataset, Sampler

from ..datasets.validation import DatasetError, build_dataset, sample_name


def seed_all(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch by several numbers, such as a run's seed and an iteration's
    number.

    Args:
        *numbers (int): Not negative; their order matters.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the transforms draw from it
    torch.manual_seed(seed)


class SampleIndex(int):
    """Index of a sample that knows its position in the run.

    Attributes:
        position (tuple[int, int, int]): Seed of the sampler, epoch, number within the epoch, over all
            processes.
    """

    position: tuple[int, int, int]

    def __new__(cls, index: int, position: tuple[int, int, int] = (0, 0, 0)) -> SampleIndex:
        self = super().__new__(cls, index)
        self.position = position
        return self


class SeededSampler(Sampler):
    r"""A sampler's indices, each a :class:`SampleIndex`.

    Process r of W takes every W-th index, and so its n-th one has the number :math:`n W + r`: that of
    the same sample where one process takes them all.

    Args:
        sampler (dict | Sampler): The sampler, of mmengine's kind, or its config.
        dataset (Dataset, optional): Argument with which a config is built. Default: None.
        seed (int, optional): Argument with which a config is built. Default: None, mmengine chooses.
    """

    def __init__(
        self, sampler: dict | Sampler, dataset: Dataset | None = None, seed: int | None = None
    ):
        if isinstance(sampler, dict):
            sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        self.sampler: Any = sampler
        self.seed = getattr(sampler, 'seed', None) or seed or 0
        self.start = 0
        if hasattr(sampler, 'skip'):  # mmengine asks whether it is there
            self.skip = self._skip

    def __iter__(self) -> Iterator[SampleIndex]:
        rank, world_size = get_dist_info()
        epoch = getattr(self.sampler, 'epoch', 0)
        for n, index in zip(count(self.start), self.sampler):
            yield SampleIndex(index, (self.seed, epoch, n * world_size + rank))

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        # Batch samplers use the data set, hooks `set_epoch`.
        if name == 'sampler':
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def _skip(self, num_samples: int) -> None:
        """Skip the first indices of this process."""
        self.sampler.skip(num_samples)
        self.start = num_samples


class SeededDataset(Dataset):
    """A data set that seeds the random generators by a sample's position before reading the sample.

    The error for a sample that cannot be read names the sample. Attributes are read from and written to
    the wrapped data set.

    Args:
        dataset (Dataset): The data set.
    """

    dataset: Dataset

    def __init__(self, dataset: Dataset):
        self.__dict__['dataset'] = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        """A sample.

        Raises:
            DatasetError: If the data set cannot read it.
        """
        if isinstance(index, SampleIndex):
            seed_all(*index.position)
        try:
            return self.dataset[int(index)]
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise DatasetError(f'{sample_name(self.dataset, int(index))}: {reason}') from error

    def __getattr__(self, name: str) -> Any:
        # Special methods are not forwarded, and while a copy is made there is no data set yet.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.dataset, name, value)


def seeded_dataset(dataset: dict) -> Dataset:
    """Build a data set from its config and wrap it in a :class:`SeededDataset`.

    Iterable data sets are not wrapped, since PyTorch's loaders read them without indices.

    Raises:
        DataFolderError, DatasetError: If it cannot be built, see
            :func:`mmdla.datasets.validation.build_dataset`.
    """
    built = build_dataset(dataset)
    return built if isinstance(built, IterableDataset) else SeededDataset(built)
