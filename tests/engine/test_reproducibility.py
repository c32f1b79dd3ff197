"""What is random about a sample follows from its position in the run."""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, default_collate

import mmdla  # noqa: F401
from mmdla.datasets.validation import DatasetError
from mmdla.engine import reproducibility
from mmdla.engine.reproducibility import SampleIndex, SeededDataset, SeededSampler


class Noise(Dataset):
    """Samples that are nothing but random numbers, of every generator that transforms draw from."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        noise = [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002
        return torch.tensor([index, *noise])


def loader(sampler, workers=0, batches=None) -> DataLoader:
    dataset = SeededDataset(Noise())
    if batches is not None:
        return DataLoader(dataset, batch_sampler=batches, num_workers=workers)
    return DataLoader(
        dataset, batch_size=2, sampler=sampler, num_workers=workers, collate_fn=default_collate
    )


def taken(sampler, count=12, **kwargs) -> torch.Tensor:
    found = []
    for batch in loader(sampler, **kwargs):
        found.append(batch)
        if 2 * len(found) >= count:
            break
    return torch.cat(found)


def infinite(seed=3):
    return SeededSampler(dict(type='InfiniteSampler'), dataset=Noise(), seed=seed)


def test_loader_processes_change_nothing():
    alone = taken(infinite())
    assert torch.equal(alone, taken(infinite(), workers=2))
    assert not torch.equal(alone, taken(infinite(seed=4)))
    assert len(alone[:, 1:].unique()) == 36, 'every sample has numbers of its own'


def test_batch_samplers_of_others_pass_positions_on():
    sampler = infinite()
    assert sampler.size == 10, "a batch sampler may ask for what is the sampler's"
    assert torch.equal(
        taken(infinite()), taken(None, batches=BatchSampler(sampler, 2, drop_last=False))
    )


def test_skipping_continues_at_the_same_position():
    sampler = infinite()
    if not hasattr(InfiniteSampler, 'skip'):
        assert not hasattr(sampler, 'skip')
        pytest.skip("upstream's samplers do not skip: mmengine reads and drops what was used")
    sampler.skip(6)
    assert torch.equal(taken(infinite(), 12)[6:], taken(sampler, 6))


def test_processes_of_a_group_share_the_positions(monkeypatch):
    """Samples of two processes in turn are those of one."""
    both = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        monkeypatch.setattr(reproducibility, 'get_dist_info', lambda rank=rank: (rank, 2))
        both.append(taken(infinite(), 6))
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (0, 1))
    monkeypatch.setattr(reproducibility, 'get_dist_info', lambda: (0, 1))
    assert torch.equal(torch.stack(both, 1).flatten(0, 1), taken(infinite(), 12))


def test_epochs_differ():
    sampler = SeededSampler(DefaultSampler(Noise(), seed=3))
    first = taken(sampler)
    assert torch.equal(first, taken(SeededSampler(DefaultSampler(Noise(), seed=3))))
    sampler.set_epoch(1)
    by_index = [x[x[:, 0].argsort()] for x in (first, taken(sampler))]
    assert len(sampler) == 10
    assert (by_index[0][:, 1:] != by_index[1][:, 1:]).all()


def test_a_sample_index_is_an_int():
    index = SampleIndex(4, (1, 2, 3))
    assert [10, 11, 12, 13, 14][index] == 14
    assert pickle.loads(pickle.dumps(index)).position == (1, 2, 3)


class Named(Noise):
    """A data set as mmengine's hooks and samplers use them."""

    def __init__(self):
        self.pipeline = 'before'
        self.metainfo = dict(classes=('a',))

    def get_data_info(self, index):
        return dict(img_path=f'{index}.png', other='no file')

    def __getitem__(self, index):
        if index == 3:
            raise OSError('cannot identify image file')
        return super().__getitem__(index)


def test_a_seeded_dataset_is_the_one_it_wraps():
    dataset = SeededDataset(Named())
    assert (len(dataset), dataset.metainfo) == (10, dict(classes=('a',)))
    dataset.pipeline = 'after'  # as hooks do that switch the pipeline
    assert dataset.dataset.pipeline == 'after'
    assert not hasattr(dataset, 'nothing')
    for other in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert (type(other), other.pipeline) == (SeededDataset, 'after')
        assert other.dataset is not dataset.dataset


def test_a_sample_that_cannot_be_read_is_named():
    dataset = SeededDataset(Named())
    with pytest.raises(
        DatasetError, match=r"^sample 3 \(img_path='3\.png'\): cannot identify image file$"
    ):
        dataset[3]
