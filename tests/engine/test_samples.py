"""What is random about a sample follows from its place; what is wrong with it is told with its files."""

from __future__ import annotations

import os
import pickle
import random
import re
import shutil

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from mmdla.engine.draws import Draw, NumberedSampler, SeededReading
from mmdla.engine.samples import SampleChecks, SampleError
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, Dataset, default_collate

import mmdla  # noqa: F401
from mmdla.engine import draws


class Noise(Dataset):
    """Samples that are nothing but random numbers, of every generator that transforms draw from."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        noise = [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002
        return torch.tensor([index, *noise])


def loader(sampler, workers=0, batches=None) -> DataLoader:
    dataset = Noise()
    dataset.__getitems__ = SeededReading(dataset, SampleChecks())
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
    return NumberedSampler(dict(type='InfiniteSampler'), dataset=Noise(), seed=seed)


def test_loader_processes_change_nothing():
    alone = taken(infinite())
    assert torch.equal(alone, taken(infinite(), workers=2))
    assert not torch.equal(alone, taken(infinite(seed=4)))
    assert len(alone[:, 1:].unique()) == 36, 'every sample has numbers of its own'


def test_batch_samplers_of_others_pass_places_on():
    sampler = infinite()
    assert sampler.size == 10, "a batch sampler may ask for what is the sampler's"
    assert torch.equal(
        taken(infinite()), taken(None, batches=BatchSampler(sampler, 2, drop_last=False))
    )


def test_skipping_goes_on_in_the_same_place():
    sampler = infinite()
    if not hasattr(InfiniteSampler, 'skip'):
        assert not hasattr(sampler, 'skip')
        pytest.skip("upstream's samplers do not skip: mmengine reads and drops what was used")
    sampler.skip(6)
    assert torch.equal(taken(infinite(), 12)[6:], taken(sampler, 6))


def test_processes_of_a_group_share_the_places(monkeypatch):
    """Samples of two processes in turn are those of one."""
    both = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        monkeypatch.setattr(draws, 'get_dist_info', lambda rank=rank: (rank, 2))
        both.append(taken(infinite(), 6))
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (0, 1))
    monkeypatch.setattr(draws, 'get_dist_info', lambda: (0, 1))
    assert torch.equal(torch.stack(both, 1).flatten(0, 1), taken(infinite(), 12))


def test_epochs_differ():
    sampler = NumberedSampler(DefaultSampler(Noise(), seed=3))
    first = taken(sampler)
    assert torch.equal(first, taken(NumberedSampler(DefaultSampler(Noise(), seed=3))))
    sampler.set_epoch(1)
    by_index = [x[x[:, 0].argsort()] for x in (first, taken(sampler))]
    assert len(sampler) == 10
    assert (by_index[0][:, 1:] != by_index[1][:, 1:]).all()


def test_a_draw_is_its_index():
    draw = Draw(4, (1, 2, 3))
    assert [10, 11, 12, 13, 14][draw] == 14
    assert pickle.loads(pickle.dumps(draw)).place == (1, 2, 3)


# -- faults ---------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def streets(tmp_path_factory):
    """A small data set, and where its first image and labels lie."""
    root = tmp_path_factory.mktemp('data') / 'streets'
    init_default_scope('mmseg')
    DATASETS.build(config(root))
    return root


def config(root) -> dict:
    return dict(
        type='mmdla.DemoStreetsDataset', data_root=str(root), sizes=dict(train=3, val=1), image_size=(64, 96),
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    )  # fmt: skip


@pytest.fixture
def reading(streets, tmp_path):
    """Reads a sample of a copy of the data set, whose first image and labels are named."""
    root = tmp_path / 'streets'
    shutil.copytree(streets, root)
    init_default_scope('mmseg')
    dataset = DATASETS.build(config(root))
    checks = SampleChecks.for_model(Config(dict(model=dict(decode_head=dict(num_classes=19)))))
    read = SeededReading(dataset, checks)
    info = dataset.get_data_info(0)
    read.image, read.labels = info['img_path'], info['seg_map_path']
    return read


def refused(reading, pattern: str) -> None:
    with pytest.raises(SampleError, match=pattern) as caught:
        pseudo_collate(reading([0]))
    assert reading.image in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_good_sample_is_read(reading):
    sample = reading([0])[0]
    assert sample['inputs'].shape == (3, 64, 96)


@pytest.mark.parametrize('kind', ['.png', '.jpg'])
@pytest.mark.parametrize('left', [0, 20, 0.5, 0.98])
def test_a_cut_image_is_named(reading, kind, left):
    """Also one that OpenCV reads, and fills up with grey."""
    with open(reading.image, 'rb') as file:
        image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    data = cv2.imencode(kind, image)[1].tobytes()
    with open(reading.image, 'wb') as file:
        file.write(data[: int(left * len(data)) if left < 1 else left])
    refused(reading, re.escape(reading.image))


def test_what_is_no_image_is_named(reading):
    with open(reading.labels, 'w') as file:
        file.write('<html>404</html>')
    refused(reading, re.escape(reading.labels))


def test_a_missing_image_is_named(reading):
    os.remove(reading.image)
    refused(reading, 'No such file|not find|cannot open')


def test_labels_of_another_size_are_named(reading):
    labels = cv2.imread(reading.labels, cv2.IMREAD_UNCHANGED)
    cv2.imwrite(reading.labels, labels[:-1])
    refused(reading, r'must be of one size, but .* has 64x96 pixels, .* has 63x96 pixels')


def test_a_photograph_that_is_stored_lying_is_no_mismatch(reading):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(reading.image) as image:
        lying = image.convert('RGB').transpose(Image.Transpose.ROTATE_90)
    path = f'{reading.image}.jpg'
    lying.save(path, exif=exif)
    reading.checks._check_files(dict(img_path=path, seg_map_path=reading.labels))
    lying.save(path)
    with pytest.raises(ValueError, match='must be of one size'):
        SampleChecks()._check_files(dict(img_path=path, seg_map_path=reading.labels))


def test_an_unknown_label_is_named(reading):
    labels = cv2.imread(reading.labels, cv2.IMREAD_UNCHANGED)
    labels[3, 4:6] = 19, 200
    cv2.imwrite(reading.labels, labels)
    refused(
        reading,
        r'has the labels 19, 200; with model\.decode_head\.num_classes=19 they must be 0 to 18 and 255',
    )


def test_an_image_larger_than_the_limit_is_named(reading, monkeypatch):
    monkeypatch.setenv('MMDLA_MAX_PIXELS', '6000')
    refused(reading, '64x96.*6,000')


def test_class_labels_are_checked_too():
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    checks = SampleChecks.for_model(Config(dict(model=dict(head=dict(num_classes=10)))))
    with checks.of(Noise(), 0) as check:
        check(dict(data_samples=DataSample().set_gt_label(9)))
        with pytest.raises(
            SampleError, match=r'has the labels 10; with model\.head\.num_classes=10 .* 0 to 9'
        ):
            check(dict(data_samples=DataSample().set_gt_label(10)))
