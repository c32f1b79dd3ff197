"""Boundary detection's data: data sets, labels, and transforms that keep lines whole and thin."""

from __future__ import annotations

from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest

pytest.importorskip('mmseg')
pytest.importorskip('scipy')
from conftest import shared
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS, TRANSFORMS
from scipy.io import savemat

from mmdla.datasets import BSDS500Dataset, DataFolderError, PASCALBoundariesDataset
from mmdla.datasets.transforms import (
    LoadBoundaryAnnotations,
    QuarterTurn,
    ThinReflectRotate,
    ThinResize,
)
from mmdla.datasets.transforms.boundaries import move_lines
from mmdla.io.boundary_files import read_annotations

ROOT = Path(__file__).resolve().parents[2]
SIZE = (40, 60)


def annotators(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Column 10 i is marked by annotators i and after: by `count` - i of them."""
    marked = np.zeros((count, *size), bool)
    for i in range(count):
        marked[i:, :, 10 * i] = True
    return marked


def write_mat(path: Path, marked: np.ndarray) -> None:
    cells = np.empty((1, len(marked)), object)
    for i, one in enumerate(marked):
        cells[0, i] = dict(Segmentation=one.astype(np.uint16), Boundaries=one.astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, dict(groundTruth=cells))


def write_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.random.randint(0, 255, (*size, 3), np.uint8))  # noqa: NPY002


@pytest.fixture
def bsds(tmp_path):
    """A BSDS500 of two, one and one images of four annotators."""
    root = tmp_path / 'BSDS500'
    for split, names in dict(train='ab', val='c', test='d').items():
        for name in names:
            write_image(root / f'images/{split}/{name}.jpg')
            write_mat(root / f'groundTruth/{split}/{name}.mat', annotators(4))
        (root / f'images/{split}/Thumbs.db').touch()  # as distributed
    return root


@pytest.fixture
def pascal(tmp_path):
    """A PASCAL Boundaries of two and one images, a PNG label each."""
    root = tmp_path / 'pascal'
    for split, names in dict(train='ab', val='c').items():
        for kind, suffix in (('images', 'jpg'), ('labels', 'png')):
            lines = [f'{kind}/{name}.{suffix}' for name in names]
            root.mkdir(exist_ok=True)
            (root / f'{split}_{kind}.txt').write_text('\n'.join(lines) + '\n')
            for line in lines:
                write_image(root / line)
        for name in names:
            label = np.zeros(SIZE, np.uint8)
            label[:, 20] = 7
            cv2.imwrite(str(root / f'labels/{name}.png'), label)
    return root


def names_of(dataset) -> list[str]:
    return [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))]


# -- data sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('split', 'names'), [('train', 'ab'), ('val', 'c'), ('test', 'd'), ('trainval', 'abc')]
)
def test_bsds_splits(bsds, split, names):
    dataset = BSDS500Dataset(str(bsds), split, pipeline=[])
    assert names_of(dataset) == list(names)
    info = dataset.get_data_info(0)
    assert read_annotations(info['seg_map_path']).shape == (4, *SIZE)
    assert info['seg_fields'] == []
    assert info['label_map'] is None
    assert info['reduce_zero_label'] is False
    assert dataset.metainfo['classes'] == ('background', 'boundary')
    assert len(dataset.metainfo['palette']) == 2


def test_bsds_by_prefix_and_with_other_annotations(bsds):
    prefix = dict(img_path='images/train', seg_map_path='groundTruth/train')
    assert names_of(BSDS500Dataset(str(bsds), data_prefix=prefix, pipeline=[])) == ['a', 'b']
    images_only = dict(img_path='images')
    only = BSDS500Dataset(str(bsds), 'val', images_only, pipeline=[])
    assert 'seg_map_path' not in only.get_data_info(0)
    truth = bsds / 'groundTruth/train'
    marked = read_annotations(truth / 'a.mat')
    for name in 'ab':
        (truth / f'{name}.mat').unlink()
    cv2.imwrite(str(truth / 'a.png'), marked[0].astype(np.uint8))
    (truth / 'b').mkdir()
    for i, one in enumerate(marked):
        cv2.imwrite(str(truth / f'b/{i}.png'), one.astype(np.uint8) * 255)
    dataset = BSDS500Dataset(str(bsds), 'train', pipeline=[])
    found = [read_annotations(dataset.get_data_info(i)['seg_map_path']) for i in range(2)]
    assert np.array_equal(found[0], marked[:1])
    assert np.array_equal(found[1], marked)


def test_bsds_names_what_is_wrong(bsds):
    with pytest.raises(DataFolderError, match=r'images is missing: .*nowhere.*BSDS500_ROOT'):
        BSDS500Dataset(str(bsds / 'nowhere'), 'train', pipeline=[])
    with pytest.raises(ValueError, match="split='training' of BSDS500Dataset must be one of train"):
        BSDS500Dataset(str(bsds), 'training', pipeline=[])
    with pytest.raises(ValueError, match='needs split'):
        BSDS500Dataset(str(bsds), pipeline=[])
    for wrong in (dict(metainfo=dict(classes=('boundary',))), dict(reduce_zero_label=True)):
        with pytest.raises(ValueError, match=r'leave metainfo\.classes and reduce_zero_label out'):
            BSDS500Dataset(str(bsds), 'val', pipeline=[], **wrong)
    (bsds / 'groundTruth/train/b.mat').unlink()
    with pytest.warns(UserWarning, match=r'^1 of 3 images .* no label map; .*train/b\.mat'):
        assert names_of(BSDS500Dataset(str(bsds), 'trainval', pipeline=[])) == ['a', 'b', 'c']


def test_pascal_goes_by_lists(pascal):
    dataset = PASCALBoundariesDataset(str(pascal), 'trainval', pipeline=[])
    assert names_of(dataset) == ['a', 'b', 'c']
    assert Path(dataset.get_data_info(2)['seg_map_path']).name == 'c.png'
    with pytest.raises(DataFolderError, match=r'test_images\.txt is missing.*PASCAL_BOUNDARIES_ROOT'):
        PASCALBoundariesDataset(str(pascal), 'test', pipeline=[])
    (pascal / 'train_labels.txt').write_text('labels/b.png\nlabels/a.png\n')
    with pytest.warns(UserWarning, match=r"different names on 2 of 2 lines.*'images/a\.jpg' and"):
        PASCALBoundariesDataset(str(pascal), pipeline=[])
    (pascal / 'train_labels.txt').write_text('labels/a.png\n')
    with pytest.raises(DataFolderError, match=r'has 2 lines and .* has 1'):
        PASCALBoundariesDataset(str(pascal), pipeline=[])
    (pascal / 'labels/c.png').unlink()
    with pytest.warns(UserWarning, match=r'^1 of 1 images .* no label map; .*labels/c\.png'):
        PASCALBoundariesDataset(str(pascal), 'val', pipeline=[])
    (pascal / 'images/c.jpg').unlink()
    with pytest.raises(DataFolderError, match=r'^1 of 1 images .* missing; the first: .*images/c\.jpg'):
        PASCALBoundariesDataset(str(pascal), 'val', pipeline=[])


def test_pascal_without_lists(pascal):
    """By folder, or by mmseg's own kind of list; and images without any labels."""
    prefix = dict(img_path='images', seg_map_path='labels')
    assert names_of(PASCALBoundariesDataset(str(pascal), data_prefix=prefix, pipeline=[])) == list(
        'abc'
    )
    (pascal / 'part.txt').write_text('c\na\n')
    dataset = PASCALBoundariesDataset(str(pascal), ann_file='part.txt', pipeline=[])
    assert names_of(dataset) == ['c', 'a']
    assert dataset.get_data_info(0)['seg_map_path'] == str(pascal / 'labels/c.png')
    with pytest.raises(ValueError, match=r"split='val'.* leave it out"):
        PASCALBoundariesDataset(str(pascal), 'val', ann_file='part.txt', pipeline=[])
    (pascal / 'val_labels.txt').unlink()
    dataset = PASCALBoundariesDataset(str(pascal), 'val', pipeline=[])
    assert 'seg_map_path' not in dataset.get_data_info(0)


@pytest.mark.parametrize('name', ['bsds500', 'pascal_boundaries'])
def test_the_config_s_data_sets_say_where_data_belong(name, bsds, pascal, monkeypatch):
    root, variable = (bsds, 'BSDS500_ROOT') if name == 'bsds500' else (pascal, 'PASCAL_BOUNDARIES_ROOT')
    for there in (root, root / 'nowhere'):
        monkeypatch.setenv(variable, str(there))
        cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py').train_dataloader.dataset
        cfg.pipeline = []
        if there == root:
            assert len(DATASETS.build(cfg)) == {'bsds500': 3}.get(name, 2)
            continue
        with pytest.raises(DataFolderError, match=rf'missing.*{variable}.*docs/data\.md') as caught:
            DATASETS.build(cfg)
        assert str(root / 'nowhere') in str(caught.value)


def test_bsds_is_whole():
    root = shared('data/BSDS500')
    for split, count in dict(train=200, val=100, test=200, trainval=300).items():
        dataset = BSDS500Dataset(str(root), split, pipeline=[])
        assert len(dataset) == count
    load = [dict(type='mmseg.LoadImageFromFile'), dict(type='mmdla.LoadBoundaryAnnotations')]
    dataset = BSDS500Dataset(str(root), 'trainval', pipeline=load)
    for i in range(0, 300, 60):
        sample = dataset[i]
        assert sorted(sample['img'].shape[:2]) == [321, 481]
        assert sample['gt_seg_map'].shape == sample['img'].shape[:2]
        assert 0.005 < sample['gt_seg_map'].mean() < 0.3


# -- labels ---------------------------------------------------------------------------------------


def load(root, **kwargs) -> np.ndarray:
    path = str(root / 'groundTruth/train/a.mat')
    results = dict(img=np.zeros((*SIZE, 3), np.uint8), img_path='a', seg_map_path=path, seg_fields=[])
    results = LoadBoundaryAnnotations(**kwargs)(results)
    assert results['seg_fields'] == ['gt_seg_map']
    assert results['gt_seg_map'].dtype == np.uint8
    return results['gt_seg_map']


@pytest.mark.parametrize(
    ('arguments', 'values'),
    [
        ({}, [1, 1, 1, 1]),
        (dict(label='consensus'), [1, 1, 0, 0]),
        (dict(label='consensus', min_annotators=4), [1, 0, 0, 0]),
        (dict(label='consensus', min_annotators=1), [1, 1, 1, 1]),
        (dict(label='consensus', ignore_fewer=True), [1, 1, 255, 255]),
        (dict(label='soft'), [100, 75, 50, 25]),
        (dict(label='soft', min_annotators=2, ignore_fewer=True), [100, 75, 50, 255]),
    ],
)
def test_labels_by_hand(bsds, arguments, values):
    wanted = np.zeros(SIZE, np.uint8)
    wanted[:, 0:40:10] = values
    assert np.array_equal(load(bsds, **arguments), wanted)


def test_label_of_real_annotations():
    path = sorted(shared('data/BSDS500').glob('groundTruth/train/*.mat'))[0]
    marked = read_annotations(path)
    results = dict(seg_map_path=str(path))
    labels = {
        label: LoadBoundaryAnnotations(label=label)(dict(results, seg_fields=[]))['gt_seg_map']
        for label in ('union', 'consensus', 'soft')
    }
    assert np.array_equal(labels['union'] == 1, marked.any(0))
    assert np.array_equal(labels['consensus'] == 1, marked.sum(0) >= 3)
    assert np.abs(labels['soft'] - 100 * marked.mean(0)).max() <= 0.5


def test_labels_that_cannot_be(bsds):
    for wrong, message in (
        (dict(label='any'), "label='any' must be one of union, consensus, soft"),
        (dict(min_annotators=0), 'min_annotators=0 must be 1 or more'),
        (dict(ignore_fewer=True), "needs label='consensus'"),
    ):
        with pytest.raises(ValueError, match=message):
            LoadBoundaryAnnotations(**wrong)
    for wrong in (dict(label='consensus'), dict(label='soft', ignore_fewer=True)):
        with pytest.raises(ValueError, match=r'a\.mat has 4 annotators, but min_annotators=5'):
            load(bsds, min_annotators=5, **wrong)
    assert load(bsds, min_annotators=5, label='soft').max() == 100
    with pytest.raises(ValueError, match='no annotation'):
        LoadBoundaryAnnotations()(dict(img_path='a', seg_fields=[]))
    write_mat(bsds / 'groundTruth/train/a.mat', annotators(4, (41, 60)))
    with pytest.raises(
        ValueError, match=r'a\.mat is of size \(41, 60\), but its image a of size \(40, 60\)'
    ):
        load(bsds)


# -- lines ----------------------------------------------------------------------------------------


def curve(seed: int, size: tuple[int, int] = (321, 481)) -> np.ndarray:
    """A smooth closed curve in the middle, in one piece, one pixel wide."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 4000)
    waves = sum(rng.uniform(-1, 1) / k * np.sin(k * angle + rng.uniform(0, 6)) for k in range(2, 7))
    radius = 0.28 * min(size) * (1 + 0.3 * waves)
    x, y = radius * np.cos(angle) + size[1] / 2, radius * np.sin(angle) + size[0] / 2
    label = np.zeros(size, np.uint8)
    points = np.stack([x, y], 1)[None].round().astype(np.int32)
    cv2.polylines(label, points, True, 1)
    bend = cut(label)
    assert pieces(bend) == 1
    return bend


def cut(label: np.ndarray) -> np.ndarray:
    """Without the pixels that can go without breaking the line, one by one."""
    label = label.copy()
    for y, x in np.argwhere(label):
        around = label[y - 1 : y + 2, x - 1 : x + 2].copy()
        before = pieces(around)
        around[1, 1] = 0
        if around.sum() > 1 and pieces(around) == before:
            label[y, x] = 0
    return label


def pieces(label: np.ndarray) -> int:
    return cv2.connectedComponents((label > 0).astype(np.uint8), connectivity=8)[0] - 1


def blocks(label: np.ndarray) -> int:
    """Full squares of four pixels."""
    on = label > 0
    return int((on[:-1, :-1] & on[1:, :-1] & on[:-1, 1:] & on[1:, 1:]).sum())


def distance(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each point to the nearest of the others."""
    return np.sqrt(((points[:, None] - others) ** 2).sum(-1)).min(1)


def rotation(degree: float, size: tuple[int, int]) -> np.ndarray:
    """As `mmcv.imrotate` has it, written down again."""
    a = np.deg2rad(degree)
    linear = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    middle = (np.array(size[::-1]) - 1) / 2
    return np.hstack([linear, (middle - linear @ middle)[:, None]])


def check_lines(before: np.ndarray, after: np.ndarray, matrix: np.ndarray, scale: float) -> None:
    """One curve in one piece, as long as it should be, thin, and where it should be."""
    assert pieces(after) == pieces(before) == 1
    count = (before > 0).sum()
    # A digital line has between 1/sqrt(2) and 1 pixels per unit of length, by its direction.
    assert 0.88 * scale < (after > 0).sum() / count < 1.12 * scale
    # Halves of a curve that come close may touch when it shrinks.
    assert blocks(after) <= (0.01 if scale >= 0.8 else 0.03) * (after > 0).sum()
    exact = np.argwhere(before)[:, ::-1] @ matrix[:, :2].T + matrix[:, 2]
    drawn = np.argwhere(after)[:, ::-1]
    # The joints lie between exact points, which are up to sqrt(2) scale apart.
    assert distance(drawn, exact).max() <= 0.75 + 0.75 * scale
    assert distance(exact, drawn).max() <= 1.6
    assert distance(exact, drawn).mean() <= 0.71  # at scale 2 all lie in the corners of four pixels


@pytest.mark.parametrize('seed', range(4))
def test_rotated_lines_stay_whole_and_thin(seed):
    label = curve(seed)
    degree = float(np.random.default_rng(seed).uniform(-180, 180))
    results = dict(img=label[..., None].repeat(3, 2) * 200, gt_seg_map=label, seg_fields=['gt_seg_map'])
    results = ThinReflectRotate(degree=(degree, degree))(results)
    after = results['gt_seg_map']
    inside = mmcv.imrotate(np.ones_like(label), degree, interpolation='nearest') == 1
    assert (after[~inside] == 255).all()
    assert set(np.unique(after[inside])) == {0, 1}
    check_lines(label, after * inside, rotation(degree, label.shape), 1)
    # and with the image: the line's pixels are bright there
    assert results['img'][..., 0][after == 1].mean() > 80
    nearest = mmcv.imrotate(label, degree, interpolation='nearest')
    assert pieces(nearest) > 10


@pytest.mark.parametrize('scale', [0.5, 0.71, 0.9, 1.17, 1.5, 2.0, 3.0])
def test_scaled_lines_stay_whole_and_thin(scale):
    label = curve(7)
    size = tuple(round(n * scale) for n in label.shape)
    results = dict(img=label[..., None].repeat(3, 2) * 200, gt_seg_map=label, seg_fields=['gt_seg_map'])
    results = ThinResize(scale=size[::-1])(results)
    assert results['gt_seg_map'].shape == results['img'].shape[:2] == size
    factor = np.array([size[1] / label.shape[1], size[0] / label.shape[0]])
    matrix = np.hstack([np.diag(factor), (factor[:, None] - 1) / 2])
    check_lines(label, results['gt_seg_map'], matrix, scale)
    ratio = results['img'][..., 0][results['gt_seg_map'] > 0].mean() / results['img'].mean()
    assert ratio > 10


def test_lines_that_cross_the_frame_are_cut_there():
    label = np.zeros((50, 80), np.uint8)
    label[25] = 1
    after = move_lines(label, rotation(60, label.shape), label.shape, 255)
    assert pieces(after == 1) == 1
    rows = np.flatnonzero((after == 1).any(1))
    assert (rows[0], rows[-1]) == (0, 49)


@pytest.mark.parametrize('degree', [0, 90, 180, -90, 270])
def test_quarter_turns_are_exact(degree):
    label = np.random.default_rng(0).choice(np.array([0, 0, 0, 1, 40, 255], np.uint8), (61, 61))
    results = dict(img=np.zeros((61, 61, 3), np.uint8), gt_seg_map=label, seg_fields=['gt_seg_map'])
    after = ThinReflectRotate(degree=(degree, degree))(results)['gt_seg_map']
    assert np.array_equal(after, np.rot90(label, -degree // 90))


def test_no_change_at_scale_1_and_at_prob_0():
    label = curve(0, (90, 120))
    results = dict(img=np.zeros((90, 120, 3), np.uint8), gt_seg_map=label, seg_fields=['gt_seg_map'])
    assert np.array_equal(ThinResize(scale=(120, 90))(dict(results))['gt_seg_map'], label)
    assert ThinReflectRotate(degree=30, prob=0)(dict(results))['gt_seg_map'] is label


def test_soft_labels_keep_each_level_whole():
    size = (200, 200)
    label = curve(1, size) * 100
    weak = np.zeros(size, np.uint8)
    cv2.line(weak, (5, 90), (195, 110), 40)
    label = np.maximum(label, weak)
    label[(label == 100) & (np.arange(200) % 20 < 10)[:, None]] = 60
    after = move_lines(label, rotation(37, size), size, 255)
    after[after == 255] = 0
    assert set(np.unique(after)) == {0, 40, 60, 100}
    for level in (40, 60):
        assert pieces(after >= level) == pieces(label >= level) == 1
    assert pieces(after >= 100) == pieces(label >= 100)
    for level in (60, 100):
        assert 0.85 < (after >= level).sum() / (label >= level).sum() < 1.15


def test_ignored_lines_and_areas():
    size = (120, 120)
    label = np.zeros(size, np.uint8)
    label[10:30, 40:80] = 255  # an area
    label[60, 20:100] = 255  # a line, of which part is sure
    label[60, 50:70] = 1
    after = move_lines(label, rotation(33, size), size, 0)
    area = cv2.warpAffine(
        (label[:40] == 255).astype(np.uint8), rotation(33, size), size[::-1], flags=cv2.INTER_NEAREST
    )
    assert (after[area == 1] == 255).all()
    line = (after > 0) & (area == 0)
    assert pieces(line) == pieces(after == 1) == 1
    assert blocks(line) == 0
    assert 15 <= (after == 1).sum() <= 22
    assert 60 <= line.sum() <= 88
    outside = move_lines(label, rotation(33, size), size, 255)
    assert outside[0, 0] == 255
    assert np.array_equal(outside == 1, after == 1)


def test_thick_marks_stay_filled():
    label = np.zeros((40, 40), np.uint8)
    label[10:30, 18:21] = 1
    matrix = np.array([[3.0, 0, 1], [0, 3.0, 1]])
    after = move_lines(label, matrix, (120, 120), 0)
    inside = after[31:89, 55:62]
    assert inside.all()
    assert after.sum() == inside.size


def test_labels_of_other_kinds_are_refused():
    label = np.full((9, 9), 150, np.uint8)
    with pytest.raises(ValueError, match=r'must be 0 to 100, or 255 for ignored, but are \[150\]'):
        move_lines(label, np.eye(2, 3), (9, 9), 255)


def test_real_lines_stay_whole():
    files = sorted(shared('data/BSDS500').glob('groundTruth/train/*.mat'))[::50]
    for number, path in enumerate(files):
        label = read_annotations(path)[0].astype(np.uint8)
        size = label.shape
        y, x = np.mgrid[: size[0], : size[1]] - (np.array(size).reshape(2, 1, 1) - 1) / 2
        label[y**2 + x**2 > (min(size) / 2 - 3) ** 2] = 0  # stays inside
        for degree in (-150 + 90 * number, 11):
            after = move_lines(label, rotation(degree, size), size, 255)
            after[after == 255] = 0
            assert pieces(after) <= pieces(label)
            assert pieces(after) >= 0.9 * pieces(label)
            assert 0.85 < after.sum() / label.sum() < 1.2  # between the slopes of digital lines
            assert blocks(after) < 0.01 * after.sum()


# -- pipelines ------------------------------------------------------------------------------------


def build(pipeline) -> Compose:
    with DefaultScope.overwrite_default_scope('mmseg'):
        return Compose([TRANSFORMS.build(t) for t in pipeline])


@pytest.mark.parametrize('label', ['union', 'consensus', 'soft'])
def test_the_config_s_pipeline(bsds, monkeypatch, label):
    monkeypatch.setenv('BSDS500_ROOT', str(bsds))
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/bsds500.py')
    pipeline = cfg.train_pipeline
    pipeline[1].update(label=label, ignore_fewer=label != 'union')
    scale = dict(type='RandomResize', resize_type='mmdla.ThinResize', scale=SIZE[::-1])
    pipeline.insert(3, dict(scale, ratio_range=(0.5, 2.0), keep_ratio=True))
    dataset = BSDS500Dataset(str(bsds), 'trainval', pipeline=[])
    run = build(pipeline)
    for i in range(3):
        packed = run(dataset.get_data_info(i))
        assert packed['inputs'].shape == (3, 416, 416)
        values = set(packed['data_samples'].gt_sem_seg.data.unique().tolist())
        allowed = {'union': {0, 1, 255}, 'consensus': {0, 1, 255}}.get(label, {0, 75, 100, 255})
        assert 0 in values
        assert 255 in values
        assert values <= allowed
        assert values & (allowed - {0, 255})
    sample = build(cfg.test_pipeline)(dataset.get_data_info(0))['data_samples']
    assert sample.metainfo['seg_map_path'].endswith('a.mat')
    assert 'gt_sem_seg' not in sample


def test_flips_and_rotations_of_real_data_together():
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/bsds500.py')
    dataset = BSDS500Dataset(str(shared('data/BSDS500')), 'train', pipeline=[], indices=3)
    run = build(cfg.train_pipeline)
    for i in range(3):
        packed = run(dataset.get_data_info(i))
        label = packed['data_samples'].gt_sem_seg.data
        assert label.shape == (1, 416, 416)
        assert set(label.unique().tolist()) == {0, 1, 255}


# -- turning for test-time augmentation -----------------------------------------------------------


@pytest.mark.parametrize('turns', range(4))
def test_quarter_turn(turns):
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    results = dict(
        img=image,
        gt_seg_map=image[..., 0],
        seg_fields=['gt_seg_map'],
        img_shape=(4, 6),
        ori_shape=(8, 18),
        scale_factor=(3.0, 2.0),
        seg_map_path='a.mat',
    )
    after = build([dict(type='mmdla.QuarterTurn', turns=turns)])(results)
    assert np.array_equal(after['img'], np.rot90(image, turns))
    assert np.array_equal(after['gt_seg_map'], after['img'][..., 0])
    odd = turns % 2
    assert after['img_shape'] == after['img'].shape[:2] == ((6, 4) if odd else (4, 6))
    assert after['ori_shape'] == ((18, 8) if odd else (8, 18))
    assert after['scale_factor'] == ((2.0, 3.0) if odd else (3.0, 2.0))
    assert after['quarter_turns'] == turns
    pack = dict(type='PackSegInputs', meta_keys=('ori_shape', 'quarter_turns'))
    packed = build([pack])(after)
    assert packed['inputs'].shape[1:] == after['img_shape']
    assert packed['data_samples'].metainfo['quarter_turns'] == turns


def test_quarter_turns_that_cannot_be():
    for turns in (4, -1, 0.5, 'left'):
        with pytest.raises(ValueError, match='must be 0, 1, 2 or 3 quarters'):
            QuarterTurn(turns)
    with pytest.raises(ValueError, match='before RandomFlip'):
        QuarterTurn(1)(dict(img=np.zeros((2, 3, 3)), flip=True))
