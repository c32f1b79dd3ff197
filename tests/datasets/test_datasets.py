"""CamVid, the generated street scenes, reflecting transforms, and what is said of missing data."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mmseg')
from conftest import shared, validate
from mmengine.config import Config
from mmseg.datasets import CityscapesDataset

from mmdla.datasets import (
    CamVidDataset,
    DataFolderError,
    demo_streets,
    generate_demo_streets,
    generated,
)
from mmdla.datasets.demo_streets import DemoStreetsDataset, Scene
from mmdla.datasets.transforms import ReflectPad, ReflectRotate
from mmdla.datasets.validation import DatasetError

SIZES = dict(train=3, val=2)
LOAD = [dict(type='LoadImageFromFile'), dict(type='mmseg.LoadAnnotations')]
PREFIX = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')


@pytest.fixture
def streets(tmp_path):
    return generate_demo_streets(tmp_path / 'streets', SIZES, (48, 96))


@pytest.fixture
def camvid(tmp_path):
    """A CamVid of four images in SegNet's layout, one of them JPEG."""
    root = tmp_path / 'camvid'
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        (root / split).mkdir(parents=True)
        (root / f'{split}annot').mkdir()
        for i in range(2):
            suffix = 'jpg' if split == 'train' and i else 'png'
            image = rng.integers(0, 255, (36, 48, 3), np.uint8)
            labels = rng.integers(0, 12, (36, 48), np.uint8)
            cv2.imwrite(str(root / split / f'{i}.{suffix}'), image)
            cv2.imwrite(str(root / f'{split}annot' / f'{i}.png'), labels)
    return root


def camvid_split(root, split='train', **kwargs) -> CamVidDataset:
    prefix = dict(img_path=split, seg_map_path=f'{split}annot')
    return CamVidDataset(data_root=str(root), data_prefix=prefix, pipeline=LOAD, **kwargs)


# -- CamVid -------------------------------------------------------------------------------------


def test_camvid_reads_png_and_jpeg_and_ignores_void(camvid):
    dataset = camvid_split(camvid)
    assert [Path(d['img_path']).name for d in map(dataset.get_data_info, range(2))] == [
        '0.png',
        '1.jpg',
    ]
    for i in range(2):
        raw = cv2.imread(str(camvid / f'trainannot/{i}.png'), cv2.IMREAD_UNCHANGED)
        labels = dataset[i]['gt_seg_map']
        assert (labels[raw == 11] == 255).all()
        assert (labels[raw < 11] == raw[raw < 11]).all()
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == 11


def test_camvid_with_chosen_classes(camvid):
    dataset = camvid_split(camvid, metainfo=dict(classes=('road', 'car')))
    raw = cv2.imread(str(camvid / 'trainannot/0.png'), cv2.IMREAD_UNCHANGED)
    labels = dataset[0]['gt_seg_map']
    assert (labels[raw == 3] == 0).all()
    assert (labels[raw == 8] == 1).all()
    assert (labels[(raw != 3) & (raw != 8)] == 255).all()


def test_camvid_is_whole():
    root = shared('data/camvid')
    for split, count in (('train', 367), ('val', 101), ('test', 233)):
        dataset = camvid_split(root, split)
        assert len(dataset) == count
        sample = dataset[count - 1]
        assert sample['img'].shape == (360, 480, 3)
        assert set(np.unique(sample['gt_seg_map'])) <= {*range(11), 255}


def test_camvid_names_what_is_missing(camvid):
    (camvid / 'val').mkdir()
    with pytest.raises(DataFolderError, match=r'none that ends in \.png or .*val\..*set CAMVID_ROOT'):
        camvid_split(camvid, 'val')
    with pytest.raises(DataFolderError, match=r'images is missing: .*nowhere'):
        camvid_split(camvid / 'nowhere')
    (camvid / 'testannot/1.png').unlink()
    with pytest.warns(UserWarning, match=r'^1 of 2 images .* the first .*testannot/1\.png'):
        dataset = camvid_split(camvid, 'test')
    assert 'gt_seg_map' in dataset[0]
    with pytest.raises(FileNotFoundError, match=r'testannot/1\.png'):
        dataset[1]


# -- street scenes ------------------------------------------------------------------------------


def test_scenes_follow_from_their_seed():
    a, b, c = Scene([0, 1]), Scene([0, 1]), Scene([0, 2])
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.labels, b.labels)
    assert not np.array_equal(a.labels, c.labels)


def test_scenes_are_worth_learning():
    """Every class drawn occurs, at several sizes, with things hiding things, and noise."""
    scenes = [Scene([7, i]) for i in range(30)]
    seen = np.concatenate([s.labels.ravel() for s in scenes])
    present = {demo_streets.CLASSES[i] for i in np.unique(seen) if i != 255}
    assert present == set(demo_streets.CLASSES) - {'wall', 'fence', 'train', 'motorcycle'}
    assert 0.005 < (seen == 255).mean() < 0.08
    cars = [int((s.labels == demo_streets.ID['car']).sum()) for s in scenes]
    cars = [c for c in cars if c]
    assert max(cars) > 10 * min(cars)
    grain = [np.diff(s.image.astype(float), axis=1)[s.labels[:, 1:] == 0].std() for s in scenes]
    assert min(grain) > 2


def test_streets_are_read_by_mmsegs_cityscapes(streets):
    dataset = CityscapesDataset(data_root=str(streets), data_prefix=dict(PREFIX), pipeline=LOAD)
    assert len(dataset) == SIZES['train']
    sample = dataset[0]
    assert sample['img'].shape == (48, 96, 3)
    assert sample['gt_seg_map'].shape == (48, 96)
    colour = cv2.imread(sample['seg_map_path'].replace('labelTrainIds', 'color'))[..., ::-1]
    road = sample['gt_seg_map'] == 0
    assert (colour[road] == [128, 64, 128]).all()
    assert (colour[sample['gt_seg_map'] == 255] == 0).all()


def test_streets_are_written_once(streets):
    stamp = {p: p.stat().st_mtime_ns for p in streets.rglob('*.png')}
    assert len(stamp) == 3 * 5
    assert generate_demo_streets(streets, SIZES, (48, 96)) == streets
    assert {p: p.stat().st_mtime_ns for p in streets.rglob('*.png')} == stamp
    dataset = DemoStreetsDataset(str(streets), SIZES, (48, 96), data_prefix=dict(PREFIX), pipeline=LOAD)
    assert len(dataset) == 3


def test_streets_overwrite_nothing(streets, tmp_path):
    with pytest.raises(
        DataFolderError, match=r'is not the demo data set of the config.*DEMO_STREETS_ROOT'
    ):
        generate_demo_streets(streets, dict(train=4), (48, 96))
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'thesis.txt').write_text('precious')
    with pytest.raises(DataFolderError, match='Move it away'):
        generate_demo_streets(mine, SIZES)
    assert (mine / 'thesis.txt').read_text() == 'precious'
    with pytest.raises(
        ValueError, match=r"sizes=.*lacks the split of data_prefix\.img_path='leftImg8bit/"
    ):
        DemoStreetsDataset(
            str(tmp_path / 'new'), dict(other=2), data_prefix=dict(PREFIX), pipeline=LOAD
        )
    assert not (tmp_path / 'new').exists()
    with pytest.raises(ValueError, match='one scene or more'):
        generate_demo_streets(tmp_path / 'none', dict(train=0))


def test_streets_that_lost_a_file_are_named(streets):
    next(streets.glob('leftImg8bit/train/*/*.png')).unlink()
    with pytest.raises(DataFolderError, match=r'leftImg8bit/train holds 2 of the 3'):
        generate_demo_streets(streets, SIZES, (48, 96))


def test_streets_that_are_there_need_no_right_to_write(streets, monkeypatch):
    def refuse(*args):
        raise PermissionError('read-only file system')

    monkeypatch.setattr(generated, 'FileLock', refuse)
    assert generate_demo_streets(streets, SIZES, (48, 96)) == streets


def test_streets_are_whole_or_not_there(tmp_path, monkeypatch):
    def disk_full(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(demo_streets, '_write_scene', disk_full)
    with pytest.raises(OSError, match='No space'):
        generate_demo_streets(tmp_path / 'streets', SIZES)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != '.lock'] == []


def _generate(root):
    generate_demo_streets(root, SIZES, (48, 96))
    manifest = json.loads((root / demo_streets.MANIFEST).read_text())
    return os.getpid(), manifest['sizes'], len(list(root.rglob('*.png')))


@pytest.mark.ddp
def test_several_processes_may_start_together(tmp_path):
    with multiprocessing.get_context('spawn').Pool(3) as pool:
        seen = pool.map(_generate, [tmp_path / 'streets'] * 3, chunksize=1)
    assert all(sizes == SIZES and count == 15 for _, sizes, count in seen)
    assert not list(tmp_path.glob('*.part-*'))


# -- transforms ---------------------------------------------------------------------------------


def sample(height=40, width=60) -> dict:
    rng = np.random.default_rng(0)
    return dict(
        img=rng.integers(1, 255, (height, width, 3), np.uint8),
        gt_seg_map=rng.integers(0, 5, (height, width), np.uint8),
        seg_fields=['gt_seg_map'],
    )


def test_rotation_reflects_the_image_and_voids_the_labels():
    results = sample()
    before = results['gt_seg_map'].copy()
    results = ReflectRotate(degree=(30, 30))(results)
    corner = (slice(0, 3), slice(0, 3))
    assert (results['gt_seg_map'][corner] == 255).all()
    assert (results['img'][corner] > 0).all()
    assert (results['gt_seg_map'] == 255).mean() > 0.05
    centre = (slice(19, 21), slice(29, 31))
    assert set(np.unique(results['gt_seg_map'][centre])) <= set(np.unique(before))
    plain = sample()
    assert np.array_equal(ReflectRotate(degree=10, prob=0)(plain)['img'], sample()['img'])


def test_rotation_by_180_degrees_is_exact():
    results = ReflectRotate(degree=(180, 180))(sample())
    assert np.array_equal(results['gt_seg_map'], sample()['gt_seg_map'][::-1, ::-1])


def test_padding_reflects_the_image_and_voids_the_labels():
    results = ReflectPad((100, 50))(sample())
    assert results['img'].shape == (100, 60, 3)
    assert results['img_shape'] == results['pad_shape'] == (100, 60)
    assert np.array_equal(results['img'][30:70], sample()['img'])
    assert np.array_equal(results['img'][29], sample()['img'][1])
    assert (results['gt_seg_map'][:30] == 255).all()
    assert np.array_equal(results['gt_seg_map'][30:70], sample()['gt_seg_map'])
    assert ReflectPad((10, 10))(sample()).get('pad_shape') is None


# -- is the data there? ---------------------------------------------------------------------------


@pytest.mark.parametrize('config', ['dla34_cityscapes', 'dla34_camvid'])
def test_missing_data_are_reported_with_how_to_get_them(config, tmp_path, monkeypatch):
    variable = {'dla34_cityscapes': 'CITYSCAPES_ROOT', 'dla34_camvid': 'CAMVID_ROOT'}[config]
    monkeypatch.setenv(variable, str(tmp_path / 'nowhere'))
    root = Path(__file__).resolve().parents[2]
    with pytest.raises((DataFolderError, DatasetError)) as caught:
        validate(Config.fromfile(root / f'configs/{config}.py'), 'train')
    text = str(caught.value)
    assert str(tmp_path / 'nowhere') in text
    assert variable in text
    assert 'docs/data.md' in text
    assert (root / 'docs/data.md').is_file()


def test_mmsegs_other_data_sets_pass(tmp_path):
    for folder, name in (('images', '21_training.png'), ('labels', '21_manual1.png')):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / name), np.zeros((4, 4), np.uint8))
    prefix = dict(img_path='images', seg_map_path='labels')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(
        type='DRIVEDataset', data_root=str(tmp_path), data_prefix=prefix, img_suffix='_training.png', pipeline=pipeline
    )  # fmt: skip
    cfg = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=dataset)))
    assert not validate(cfg, 'train')
    (tmp_path / 'labels/21_manual1.png').unlink()
    with pytest.raises(DatasetError, match='seg_map_path of 1 of 1 samples does not exist'):
        validate(cfg, 'train')


def test_incomplete_cityscapes_is_reported(streets):
    image = next(streets.glob('leftImg8bit/train/*/*.png'))
    image.with_name(f'._{image.name}').write_bytes(b'')  # hidden files are passed over
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(
        type='CityscapesDataset', data_root=str(streets), data_prefix=PREFIX, pipeline=pipeline
    )
    repeated = dict(type='RepeatDataset', dataset=dataset, times=2)
    cfg = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=repeated)))
    validate(cfg, 'train')
    next(streets.glob('gtFine/train/*/*labelTrainIds.png')).unlink()
    with pytest.raises(
        DatasetError, match=r'seg_map_path of 1 of 3 samples does not exist.*CITYSCAPES_ROOT'
    ):
        validate(cfg, 'train')
