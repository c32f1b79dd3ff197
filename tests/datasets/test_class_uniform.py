"""Class-uniform sampling: centroids by hand, what is drawn, crops, the cache."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS, init_default_scope
from mmseg.registry import MODELS, TRANSFORMS

from mmdla.datasets import ClassUniformDataset
from mmdla.datasets.class_uniform import tile_centroids
from mmdla.datasets.transforms import CentroidCrop
from mmdla.datasets.validation import DatasetValidator, Outputs, build_dataset, unwrap
from mmdla.engine.reproducibility import SeededDataset, SeededSampler

ROOT = Path(__file__).resolve().parents[2]
SIZE = (40, 64)


@pytest.fixture
def streets(tmp_path) -> dict:
    """Twenty label maps of class 0; one has a square of class 2, and class 1 is void throughout."""
    for i in range(20):
        label = np.zeros(SIZE, np.uint8)
        if i == 7:
            label[20:25, 50:55] = 2
        label[:3] = 255
        for folder, picture in (('img', np.full((*SIZE, 3), i, np.uint8)), ('ann', label)):
            path = tmp_path / folder / f'{i:02}.png'
            path.parent.mkdir(exist_ok=True)
            assert cv2.imwrite(str(path), picture)
    init_default_scope('mmseg')
    return dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
        img_suffix='.png',
        metainfo=dict(classes=('road', 'wall', 'car'), palette=[[0] * 3, [1] * 3, [2] * 3]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=SIZE[::-1], ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='mmdla.CentroidCrop', crop_size=(16, 16)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    )


def drawn(dataset, count: int = 300) -> list[tuple[int, set[int]]]:
    """The images that samples are of, which their colour is, and the classes that they show."""
    np.random.seed(0)  # noqa: NPY002  what transforms draw from
    samples = [dataset[i % len(dataset)] for i in range(count)]
    return [
        (int(s['inputs'].max()), set(s['data_samples'].gt_sem_seg.data.unique().tolist()))
        for s in samples
    ]


def test_centroids_by_hand():
    labels = np.full((6, 10), 255, np.uint8)
    labels[0, 0] = labels[0, 2] = 1  # tile of rows 0-3 and columns 0-3: mean (1, 0)
    labels[1:4, 4:7] = 2  # the next tile: 3 x 3 about (5, 2)
    labels[4:, 8:] = 0  # a smaller one: (8.5, 4.5), rounded to even
    labels[5, 1] = 1
    labels[5, 2] = 3  # no class
    wanted = [[1, 1, 0], [2, 5, 2], [1, 1, 5], [0, 8, 4]]
    assert tile_centroids(labels, 3, (4, 4)).tolist() == wanted
    whole = tile_centroids(labels, 3, (9, 99)).tolist()
    assert whole == [[0, 8, 4], [1, 1, 2], [2, 5, 2]]  # (0 + 2 + 1) / 3, (0 + 0 + 5) / 3
    assert tile_centroids(np.full((4, 4), 255), 3, (2, 2)).shape == (0, 3)


def test_rare_classes_come_as_often(streets):
    dataset = DATASETS.build(dict(type='mmdla.ClassUniformDataset', dataset=streets, tile_size=32))
    assert len(dataset) == 20
    assert dataset.metainfo['classes'] == ('road', 'wall', 'car')
    road, car = dataset.centroids  # class 1 is nowhere
    assert car.tolist() == [[7, 52, 22]]
    assert len(road) == 20 * 4  # of four tiles each; in the car's there is road, too
    found = drawn(dataset)
    with_car = np.mean([2 in classes for _, classes in found])
    # a quarter is drawn for it, and all of these show it; of the others one in twenty may
    assert 0.2 < with_car < 0.32
    assert all(image == 7 for image, classes in found if 2 in classes)
    plain = drawn(DATASETS.build(dict(type='ClassUniformDataset', dataset=streets, share=0)))
    assert [image for image, _ in plain[:20]] == list(range(20))
    assert np.mean([2 in classes for _, classes in plain]) < 0.05
    always = drawn(ClassUniformDataset(streets, share=1.0))
    assert 0.4 < np.mean([2 in classes for _, classes in always]) < 0.6


@pytest.mark.parametrize('scale', [1.0, 0.4, 2.5])
@pytest.mark.parametrize('at', [(0, 0), (63, 39), (20, 31)])
def test_crops_show_the_centroid(scale, at):
    image = np.zeros((*SIZE, 3), np.uint8)
    image[at[1], at[0]] = 255
    size = tuple(round(n * scale) for n in SIZE)
    scaled = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if scale < 1 else 0)
    places = set()
    for _ in range(50):
        results = dict(img=scaled, ori_shape=SIZE, centroid=at, seg_fields=[])
        after = CentroidCrop(crop_size=(16, 20))(results)['img']
        assert after.shape == (16, 20, 3)
        assert after.max() > 0
        places.add(tuple(np.argwhere(after[..., 0] == after.max())[0]))
    assert len(places) > 5 if at == (20, 31) else len(places) <= 4  # there are few in a corner


def test_crops_of_small_images_and_without_centroid():
    results = dict(img=np.zeros((8, 30, 3)), ori_shape=(8, 30), centroid=(29, 7), seg_fields=[])
    assert CentroidCrop(crop_size=16)(dict(results))['img'].shape == (8, 16, 3)
    del results['centroid']
    assert CentroidCrop(crop_size=16)(results)['img'].shape == (8, 16, 3)
    with pytest.raises(ValueError, match='must come before RandomFlip'):
        CentroidCrop(crop_size=4)(
            dict(img=np.zeros((8, 8, 3)), ori_shape=(8, 8), centroid=(1, 1), flip=True)
        )
    assert isinstance(TRANSFORMS.build(dict(type='mmdla.CentroidCrop', crop_size=4)), CentroidCrop)


def test_labels_are_those_of_the_pipeline(streets):
    """A class less, by mmseg's label map: the car is class 0 then."""
    streets['metainfo'] = dict(classes=('car',))
    streets['type'] = 'mmdla.CamVidDataset'
    streets.pop('img_suffix')
    streets['metainfo'] = dict(classes=('pole',))  # which is 2 in CamVid
    dataset = ClassUniformDataset(streets)
    assert [points.tolist() for points in dataset.centroids] == [[[7, 52, 22]]]


def test_samples_are_validated_and_seeded(streets):
    cfg = dict(type='mmdla.ClassUniformDataset', dataset=streets)
    dataset = build_dataset(cfg)
    assert [type(d).__name__ for d in unwrap(dataset)] == ['BaseSegDataset']
    validator = DatasetValidator(Outputs(3, ignore_index=255), [].append)
    validator('train', dataset)
    assert 'files of 20 samples' in validator.report[0]
    seeded = SeededDataset(dataset)
    runs = [
        [seeded[i]['inputs'] for i in SeededSampler(dict(type='DefaultSampler'), dataset, 5)]
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs))
    (Path(streets['data_root']) / 'img/07.png').write_bytes(b'no')
    dataset.share = 1.0
    dataset.centroids = dataset.centroids[1:]
    with pytest.raises(
        ValueError, match=r'^sample 3 .*drawn for one of its classes, sample 7 \(.*07\.png'
    ):
        seeded[3]


class Untouched:
    def __call__(self, results: dict) -> dict:
        return results


def test_the_cache_is_used_and_follows_the_labels(streets, tmp_path, monkeypatch):
    cache = tmp_path / 'new/centroids.npz'
    cfg = dict(dataset=streets, cache=str(cache), tile_size=32)
    first = ClassUniformDataset(**cfg).centroids
    assert [p.name for p in cache.parent.iterdir()] == ['centroids.npz']
    reads: list[int] = []
    find = ClassUniformDataset._find
    monkeypatch.setattr(ClassUniformDataset, '_find', lambda *args: reads.append(1) or find(*args))
    again = ClassUniformDataset(**cfg).centroids
    assert not reads
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    cropped = {**streets, 'pipeline': streets['pipeline'][:2]}
    ClassUniformDataset(cropped, cache=str(cache), tile_size=32)
    assert not reads, 'what comes after loading changes no centroid'
    ClassUniformDataset(dataset=streets, cache=str(cache), tile_size=16)
    assert len(reads) == 1
    label = np.zeros(SIZE, np.uint8)
    label[0, 0] = 1
    cv2.imwrite(str(tmp_path / 'ann/00.png'), label)
    changed = ClassUniformDataset(dataset=streets, cache=str(cache), tile_size=16)
    assert len(reads) == 2
    assert changed.centroids[1].tolist() == [[0, 0, 0]]
    # a step of a user's without a representation of its own, which has an address in it
    mine = {**streets, 'pipeline': [streets['pipeline'][0], Untouched(), *streets['pipeline'][1:]]}
    ClassUniformDataset(mine, cache=str(cache), tile_size=16)
    mine['pipeline'][1] = Untouched()
    ClassUniformDataset(mine, cache=str(cache), tile_size=16)
    assert len(reads) == 3
    # what it writes is there as a whole or not at all
    monkeypatch.setattr(np, 'savez_compressed', lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ClassUniformDataset(dataset=streets, cache=str(tmp_path / 'new/other.npz'))
    assert [p.name for p in cache.parent.iterdir()] == ['centroids.npz']


def test_other_files_are_no_cache(streets, tmp_path):
    thesis = tmp_path / 'thesis.npz'
    np.savez(thesis, data=np.arange(3))
    before = thesis.read_bytes()
    with pytest.raises(ValueError, match=r'thesis\.npz. is there and no cache of centroids'):
        ClassUniformDataset(streets, cache=str(thesis))
    assert thesis.read_bytes() == before


def test_what_cannot_be_is_named(streets, tmp_path):
    for wrong, message in (
        (dict(share=1.5), 'share=1.5 must be a probability'),
        (dict(tile_size=0), 'tile_size=0 must be'),
        (dict(cache='centroids.json'), r"cache='centroids\.json' must end in \.npz"),
        (dict(dataset=dict(type='ConcatDataset', datasets=[streets])), 'ConcatDataset has no pipeline'),
    ):
        with pytest.raises(ValueError, match=message):
            ClassUniformDataset(**{'dataset': streets, **wrong})
    for path in (tmp_path / 'ann').iterdir():
        cv2.imwrite(str(path), np.full(SIZE, 255, np.uint8))
    with pytest.raises(ValueError, match='no pixel of its 20 label maps is of one of the 3 classes'):
        ClassUniformDataset(streets)
    with pytest.raises(ValueError, match='BaseSegDataset names no classes'):
        ClassUniformDataset({**streets, 'metainfo': {}})
    streets['pipeline'] = streets['pipeline'][:1]
    with pytest.raises(ValueError, match=r'sample 0 .*00\.png.*: the pipeline loads no label map'):
        ClassUniformDataset(streets)


STREETS = 'leftImg8bit/{}/{}_leftImg8bit.png gtFine/{}/{}_gtFine_labelTrainIds.png'


@pytest.mark.parametrize(
    ('name', 'variable', 'files'),
    [
        ('bdd100k', 'BDD100K_ROOT', 'images/10k/{}/{}.jpg labels/sem_seg/masks/{}/{}.png'),
        ('cityscapes_1024x2048', 'CITYSCAPES_ROOT', STREETS),
        ('cityscapes_trainval_1024', 'CITYSCAPES_ROOT', STREETS),
    ],
)
def test_recipes_read_their_data_and_train_a_step(name, variable, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the cache is
    monkeypatch.setenv(variable, str(tmp_path))
    for split, number in (('train', 0), ('train', 1), ('val', 2)):
        image, label = (tmp_path / p.format(split, f'{number}') for p in files.split())
        for path, picture in ((image, np.zeros((*SIZE, 3))), (label, np.full(SIZE, 5 * number))):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture.astype(np.uint8))
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    init_default_scope('mmseg')
    parts = cfg.train_dataloader.dataset.get('datasets', [cfg.train_dataloader.dataset])
    for part in parts:
        for step in part.dataset.pipeline:
            step.update({key: (64, 64) for key in ('size', 'crop_size') if key in step})
            if 'scale' in step:
                step.scale = SIZE[::-1]
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    found = getattr(dataset, 'datasets', [dataset])
    assert [len(one) for one in found] == [2, 1][: len(parts)]
    assert [len(one.centroids) for one in found] == [2, 1][: len(parts)]
    assert all((tmp_path / part.cache).is_file() for part in parts)
    model = MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=cfg.mean, std=cfg.std, size_divisor=1
            ),
            backbone=dict(type='mmdla.DLA', arch='46_c', out_indices=(2, 3)),
            decode_head=dict(
                type='mmdla.IDAUpHead',
                in_channels=[64, 64],
                num_classes=19,
                loss_decode=[
                    dict(type='mmdla.OneHotBCELoss', loss_weight=0.5),
                    dict(type='mmdla.RegionMutualInformationLoss', loss_weight=0.5),
                ],
            ),
        )
    )
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), training=True)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    (losses['decode.loss_bce'] + losses['decode.loss_rmi']).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    validated = DATASETS.build(cfg.val_dataloader.dataset)
    assert validated[0]['data_samples'].gt_sem_seg.data.unique().tolist() == [10]
    assert METRICS.build(cfg.val_evaluator)
