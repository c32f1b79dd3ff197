"""Boundary data as papers use them: lists of pairs, grey labels, annotators, mixtures of data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('scipy')
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS, init_default_scope
from mmseg.registry import MODELS
from scipy.io import savemat

from mmdla.datasets import BoundaryPairsDataset, DataFolderError
from mmdla.datasets.transforms import LoadBoundaryAnnotations
from mmdla.datasets.validation import DatasetValidator, Outputs, unwrap
from mmdla.engine.reproducibility import SeededDataset, SeededSampler
from mmdla.io.boundary_files import BoundaryFileError, read_annotations, read_grey_annotations

ROOT = Path(__file__).resolve().parents[2]
SIZE = (40, 60)
GREYS = (0, 1, 76, 77, 128, 255)  # of the columns 0, 10, ..., 50; 76.5 is 0.3 of 255


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.random.randint(0, 255, (*SIZE, 3), np.uint8))  # noqa: NPY002


def write_label(path: Path, greys: tuple[int, ...] = GREYS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = np.zeros(SIZE, np.uint8)
    label[:, 0 : 10 * len(greys) : 10] = greys
    assert cv2.imwrite(str(path), label)


def write_mat(path: Path, annotators: int) -> None:
    """Column 10 i is marked by all annotators but the first i."""
    cells = np.empty((1, annotators), object)
    for i in range(annotators):
        marked = np.zeros(SIZE, np.uint8)
        marked[:, 0 : 10 * i + 1 : 10] = 1
        cells[0, i] = dict(Boundaries=marked)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, dict(groundTruth=cells))


def write_list(path: Path, lines: list[str]) -> None:
    for line in lines:
        image, *label = line.split()
        write_image(path.parent / image)
        for one in label:
            write_label(path.parent / one)
    path.write_text('\n'.join(lines) + '\n')


@pytest.fixture
def hed(tmp_path, monkeypatch):
    """HED's augmented BSDS500, with BSDS500 beside it."""
    root = tmp_path / 'HED-BSDS'
    names = ('0.0_1_0/a', '22.5_1_1/a', '0.0_1_0/b')
    root.mkdir()
    write_list(
        root / 'train_pair.lst',
        [f'train/aug_data/{name}.jpg train/aug_gt/{name}.png' for name in names],
    )
    write_list(root / 'test.lst', ['test/c.jpg'])
    bsds = tmp_path / 'BSDS500'
    for split, name in (('val', 'd'), ('test', 'c')):
        write_image(bsds / f'images/{split}/{name}.jpg')
        write_mat(bsds / f'groundTruth/{split}/{name}.mat', 5)
    monkeypatch.setenv('HED_BSDS_ROOT', str(root))
    monkeypatch.setenv('BSDS500_ROOT', str(bsds))
    return root


@pytest.fixture
def pascal(tmp_path, monkeypatch):
    """HED's augmented PASCAL-Context."""
    root = tmp_path / 'PASCAL'
    root.mkdir()
    names = ('0.0_0/2008_1', '0.0_1/2008_1')
    write_list(root / 'train_pair.lst', [f'aug_data/{n}.jpg aug_gt/{n}.png' for n in names])
    monkeypatch.setenv('PASCAL_CONTEXT_BOUNDARIES_ROOT', str(root))
    return root


@pytest.fixture
def nyud(tmp_path, monkeypatch):
    """NYUDv2 with its images and HHA, and the benchmark's annotations of test images."""
    root = tmp_path / 'NYUD'
    root.mkdir()
    for kind, folder in (('image', 'Images'), ('hha', 'HHA')):
        train = [f'train/{folder}/0.0_0/img_{n}.png train/GT/0.0_0/img_{n}.png' for n in (1, 2)]
        write_list(root / f'{kind}-train.lst', train)
        write_list(root / f'{kind}-test.lst', [f'test/{folder}/img_{n}.png' for n in (5, 6)])
    for n in (5, 6):
        write_mat(root / f'groundTruth/test/img_{n}.mat', 1)
    monkeypatch.setenv('NYUDV2_BOUNDARIES_ROOT', str(root))
    return root


@pytest.fixture
def biped(tmp_path, monkeypatch):
    """BIPED as distributed."""
    root = tmp_path / 'BIPED/edges'
    for part, name in (('train/rgbr/real', 'RGB_1'), ('train/rgbr/real', 'RGB_2'), ('test/rgbr', 'RGB_8')):  # fmt: skip
        write_image(root / f'imgs/{part}/{name}.jpg')
        write_label(root / f'edge_maps/{part}/{name}.png')
    monkeypatch.setenv('BIPED_ROOT', str(root))
    return root


@pytest.fixture
def multicue(tmp_path, monkeypatch):
    """What the converter makes of Multicue."""
    root = tmp_path / 'multicue'
    root.mkdir()
    for task in ('boundary', 'edge'):
        for k in (1, 2, 3):
            for split, names in (('train', 'abcd'), ('test', 'e')):
                lines = [f'images/{n}.png labels/{task}/{n}' for n in names]
                (root / f'{split}_pair_{task}_set_{k}.lst').write_text('\n'.join(lines))
        for name in 'abcde':
            write_image(root / f'images/{name}.png')
            for i in range(2):
                write_label(root / f'labels/{task}/{name}/{i}.png', (255 * i, 255))
    monkeypatch.setenv('MULTICUE_ROOT', str(root))
    return root


def names_of(dataset) -> list[str]:
    return [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))]


# -- lists --------------------------------------------------------------------------------------------


def test_pairs_in_order_of_the_list(hed):
    dataset = BoundaryPairsDataset(str(hed), 'train_pair.lst', pipeline=[])
    assert names_of(dataset) == ['a', 'a', 'b']
    info = dataset.get_data_info(1)
    assert info['img_path'] == str(hed / 'train/aug_data/22.5_1_1/a.jpg')
    assert info['seg_map_path'] == str(hed / 'train/aug_gt/22.5_1_1/a.png')
    assert dataset.metainfo['classes'] == ('background', 'boundary')
    only = BoundaryPairsDataset(str(hed), 'test.lst', pipeline=[])
    assert names_of(only) == ['c']
    assert 'seg_map_path' not in only.get_data_info(0)


def test_annotations_of_images_that_are_alone_in_the_list(nyud):
    prefix = dict(seg_map_path='groundTruth/test')
    dataset = BoundaryPairsDataset(str(nyud), 'hha-test.lst', prefix, pipeline=[])
    paths = [dataset.get_data_info(i)['seg_map_path'] for i in range(2)]
    assert paths == [str(nyud / f'groundTruth/test/img_{n}.mat') for n in (5, 6)]
    (nyud / 'groundTruth/test/img_6.mat').unlink()
    write_label(nyud / 'groundTruth/test/img_6/1.png')  # a folder of annotators
    dataset = BoundaryPairsDataset(str(nyud), 'hha-test.lst', prefix, pipeline=[])
    assert dataset.get_data_info(1)['seg_map_path'] == str(nyud / 'groundTruth/test/img_6')


def test_lists_of_other_editors(hed):
    lines = (hed / 'train_pair.lst').read_text().replace('/', '\\').replace('\n', '\r\n\r\n')
    (hed / 'other.lst').write_bytes(b'\xef\xbb\xbf' + lines.replace(' ', '\t').encode())
    dataset = BoundaryPairsDataset(str(hed), str(hed / 'other.lst'), pipeline=[])
    assert names_of(dataset) == ['a', 'a', 'b']


def test_what_is_wrong_with_lists_is_named(hed):
    with pytest.raises(ValueError, match=r'needs ann_file, as train_pair\.lst, or data_prefix'):
        BoundaryPairsDataset(str(hed))
    with pytest.raises(DataFolderError, match=r'no\.lst is missing.*HED_BSDS_ROOT.*docs/data\.md'):
        BoundaryPairsDataset(str(hed), 'no.lst', pipeline=[])
    (hed / 'spaces.lst').write_text('my image.jpg label.png\n')
    with pytest.raises(DataFolderError, match=r"spaces\.lst: the line 'my image\.jpg label\.png' must"):
        BoundaryPairsDataset(str(hed), 'spaces.lst', pipeline=[])
    (hed / 'train/aug_gt/0.0_1_0/b.png').unlink()
    with pytest.warns(UserWarning, match=r'^1 of 3 images .* no label map; .*0\.0_1_0/b\.png'):
        BoundaryPairsDataset(str(hed), 'train_pair.lst', pipeline=[])
    (hed / 'train/aug_data/0.0_1_0/b.jpg').unlink()
    with pytest.raises(
        DataFolderError, match=r'1 of 3 images .* missing; the first: .*0\.0_1_0/b\.jpg'
    ):
        BoundaryPairsDataset(str(hed), 'train_pair.lst', pipeline=[])


# -- labels -------------------------------------------------------------------------------------------


def load(path: Path, **kwargs) -> dict:
    results = dict(img=np.zeros((*SIZE, 3), np.uint8), img_path='a', seg_fields=[])
    return LoadBoundaryAnnotations(**kwargs)(dict(results, seg_map_path=str(path)))


@pytest.mark.parametrize(
    ('arguments', 'values'),
    [
        ({}, [0, 255, 255, 1, 1, 1]),  # above 0.3 of 255, which is 76.5
        (dict(boundary_above=0.5), [0, 255, 255, 255, 1, 1]),
        (dict(boundary_above=0.0), [0, 1, 1, 1, 1, 1]),
        (dict(ignore_above=0.3), [0, 0, 0, 1, 1, 1]),
        (dict(boundary_above=0.6, ignore_above=0.29), [0, 0, 255, 255, 255, 1]),
    ],
)
def test_grey_labels_by_hand(tmp_path, arguments, values):
    write_label(tmp_path / 'a.png')
    wanted = np.zeros(SIZE, np.uint8)
    wanted[:, ::10] = values
    results = load(tmp_path / 'a.png', label='grey', **arguments)
    assert results['gt_seg_map'].dtype == np.uint8
    assert np.array_equal(results['gt_seg_map'], wanted)
    # 16 bit are the same
    grey = cv2.imread(str(tmp_path / 'a.png'), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / 'b.png'), grey.astype(np.uint16) * 257)
    again = load(tmp_path / 'b.png', label='grey', **arguments)
    assert np.array_equal(again['gt_seg_map'], wanted)


def test_grey_of_annotators_is_their_share(tmp_path):
    write_mat(tmp_path / 'a.mat', 5)
    grey = read_grey_annotations(tmp_path / 'a.mat').mean(0)[0, ::10]
    assert np.allclose(grey, [1, 0.8, 0.6, 0.4, 0.2, 0])
    found = load(tmp_path / 'a.mat', label='grey', boundary_above=0.5, ignore_above=0.3)
    assert found['gt_seg_map'][0, ::10].tolist() == [1, 1, 1, 255, 0, 0]
    write_label(tmp_path / 'b/1.png')
    write_label(tmp_path / 'b/2.png', (255,) * 6)
    assert load(tmp_path / 'b', label='grey', boundary_above=0.65)['gt_seg_map'][0, ::10].tolist() == [
        255, 255, 255, 1, 1, 1,  # (77 + 255) / 510 = 0.65
    ]  # fmt: skip
    assert read_annotations(tmp_path / 'b').sum() == (5 + 6) * SIZE[0]


def test_an_annotator_at_random(tmp_path):
    write_mat(tmp_path / 'a.mat', 3)
    np.random.seed(0)  # noqa: NPY002  what transforms draw from
    found = [load(tmp_path / 'a.mat', label='random')['gt_seg_map'][0, ::10] for _ in range(60)]
    drawn = {tuple(f.tolist()) for f in found}
    assert drawn == {(1, 0, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), (1, 1, 1, 0, 0, 0)}


def test_mean_and_deviation_of_annotators(tmp_path):
    write_mat(tmp_path / 'a.mat', 4)
    results = load(tmp_path / 'a.mat', label='soft', deviation=True)
    assert results['seg_fields'] == ['gt_seg_map', 'gt_edge_map']
    assert results['gt_seg_map'][0, :40:10].tolist() == [100, 75, 50, 25]
    assert results['gt_edge_map'][0, :40:10].tolist() == [0, 43, 50, 43]  # sqrt(3/16), 1/2
    marked = read_annotations(tmp_path / 'a.mat')
    assert np.abs(results['gt_edge_map'] - 100 * marked.std(0)).max() <= 0.5


def test_arguments_that_cannot_be(tmp_path):
    for wrong, message in (
        (dict(boundary_above=1), 'must be from 0 to 1 and in this order'),
        (dict(ignore_above=0.4), 'ignore_above=0.4 and boundary_above=0.3'),
        (dict(deviation=True), "deviation=True needs label='soft'"),
        (dict(label='grey', ignore_fewer=True), "needs label='consensus' or 'soft'"),
    ):
        with pytest.raises(ValueError, match=message):
            LoadBoundaryAnnotations(**wrong)
    cv2.imwrite(str(tmp_path / 'a.tiff'), np.zeros(SIZE, np.float32))
    with pytest.raises(BoundaryFileError, match=r'must be of 8 or 16 bit, but are float32'):
        load(tmp_path / 'a.tiff', label='grey')


# -- the configs --------------------------------------------------------------------------------------

CONFIGS = {
    'bsds500_hed': ('hed', 3, {0, 1, 255}),
    'bsds500_pascal': ('hed,pascal', 5, {0, 1, 255}),
    'nyudv2_boundaries': ('nyud', 2, {0, 1, 255}),
    'nyudv2_boundaries_hha': ('nyud', 2, {0, 1, 255}),
    'biped': ('biped', 2, {0, 1, 255}),
    'multicue_boundaries': ('multicue', 4, {0, 1, 255}),
    'multicue_edges': ('multicue', 4, {0, 1, 255}),
}


def detector() -> torch.nn.Module:
    init_default_scope('mmseg')
    return MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[100] * 3, std=[50] * 3, size_divisor=1
            ),
            backbone=dict(type='mmdla.DLA', arch='46_c', out_indices=(2, 3)),
            decode_head=dict(type='mmdla.BoundaryHead', in_channels=[64, 64]),
            test_cfg=dict(mode='whole'),
        )
    )


def smaller(dataset: ConfigDict) -> ConfigDict:
    """The same with crops of 96 pixels."""
    for one in dataset.get('datasets', [dataset]):
        for step in one.pipeline:
            step.update({key: (96, 96) for key in ('size', 'crop_size') if key in step})
            if 'scale' in step:
                step.scale = SIZE[::-1]
    return dataset


@pytest.mark.parametrize('name', CONFIGS)
def test_data_of_a_config_are_read_and_trained_on(name, request):
    fixtures, count, values = CONFIGS[name]
    for fixture in fixtures.split(','):
        request.getfixturevalue(fixture)
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{name}.py')
    init_default_scope('mmseg')
    dataset = DATASETS.build(smaller(cfg.train_dataloader.dataset))
    assert len(dataset) == count
    model = detector()
    DatasetValidator(Outputs.of(model), pytest.fail)('train', dataset)
    batch = pseudo_collate([dataset[i] for i in range(2)])
    found = {v for s in batch['data_samples'] for v in s.gt_sem_seg.data.unique().tolist()}
    assert {0, 1} <= found <= values
    batch = model.data_preprocessor(batch, training=True)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    model.eval()
    for split in ('val', 'test'):
        test_data = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        path = test_data.get_data_info(0)['seg_map_path']
        assert read_annotations(path).shape[1:] == SIZE
        evaluator = cfg[f'{split}_evaluator']
        assert evaluator.get('max_dist', 0.0075) == (0.011 if 'nyud' in name else 0.0075)
        assert METRICS.build(evaluator), 'as it is'
        for option in ('jobs', 'num_workers'):  # and in this process
            evaluator.pop(option, None)
        metric = METRICS.build(dict(evaluator, thresholds=3))
        with torch.no_grad():
            (sample,) = model.test_step(pseudo_collate([test_data[0]]))
        metric.process({}, [sample.to_dict()])
        assert 0 <= metric.evaluate(1)['boundary/ODS'] <= 1


def test_the_random_split_of_multicue_is_named_by_a_variable(multicue, monkeypatch):
    monkeypatch.setenv('MULTICUE_SET', '3')
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/multicue_edges.py')
    assert cfg.train_dataloader.dataset.ann_file == 'train_pair_edge_set_3.lst'
    assert cfg.test_dataloader.dataset.ann_file == 'test_pair_edge_set_3.lst'


def test_mixtures_have_their_ratios_and_are_seeded(hed, pascal):
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/bsds500_pascal.py').train_dataloader.dataset
    init_default_scope('mmseg')
    cfg.datasets[1] = dict(type='RepeatDataset', times=3, dataset=cfg.datasets[1])
    dataset = DATASETS.build(cfg)
    assert len(dataset) == 3 + 3 * 2
    assert [type(d).__name__ for d in unwrap(dataset)] == ['BoundaryPairsDataset'] * 2
    assert names_of(dataset) == ['a', 'a', 'b', *['2008_1'] * 6]
    seeded = SeededDataset(dataset)
    again = [
        [seeded[i]['inputs'] for i in SeededSampler(dict(type='DefaultSampler'), dataset, 3)]
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*again))


def test_grey_labels_of_0_and_1_are_warned_of(tmp_path):
    write_label(tmp_path / 'a.png', (0, 1, 1, 1, 0, 0))
    with pytest.warns(UserWarning, match=r"a\.png: the largest value .* is 1 of 255; .*label='union'"):
        load(tmp_path / 'a.png', label='grey')
