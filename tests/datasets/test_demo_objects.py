"""The generated pictures of things."""

from __future__ import annotations

import json
import multiprocessing
import runpy
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpretrain')

from filelock import FileLock
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

from mmdla.datasets import demo_objects, generated
from mmdla.datasets.demo_objects import (
    CLASSES,
    IMAGE_SIZE,
    SIDES,
    DemoObjectsDataset,
    ObjectPicture,
    generate_demo_objects,
    picture_seed,
)
from mmdla.datasets.folders import DataFolderError

ROOT = Path(__file__).resolve().parents[2]
SIZES = dict(train=16, val=8)


@pytest.fixture
def objects(tmp_path):
    return generate_demo_objects(tmp_path / 'objects', SIZES, 48)


# -- pictures -------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_pictures():
    a, b, c = (ObjectPicture([0, 1, i], 'fish') for i in (5, 5, 6))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.mask, b.mask)
    assert a.box == b.box
    assert not np.array_equal(a.image, c.image)


def test_splits_share_no_seed():
    seeds = {tuple(picture_seed(s, split, i)) for s in (0, 1) for split in SIZES for i in range(50)}
    assert len(seeds) == 200


@pytest.mark.parametrize('name', CLASSES)
def test_boxes_are_tight_and_within_bounds(name):
    for i in range(12):
        picture = ObjectPicture([3, i], name)
        assert picture.image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        x0, y0, x1, y1 = picture.box
        assert picture.mask.sum() == picture.mask[y0:y1, x0:x1].sum()
        for edge in (
            picture.mask[y0],
            picture.mask[y1 - 1],
            picture.mask[:, x0],
            picture.mask[:, x1 - 1],
        ):
            assert edge.any()
        assert min(x0, y0) >= 0
        assert max(x1, y1) <= IMAGE_SIZE
        # A pixel or two at the edges is covered by less than half.
        assert min(x1 - x0, y1 - y0) >= SIDES[0] * IMAGE_SIZE - 4
        assert max(x1 - x0, y1 - y0) <= SIDES[1] * IMAGE_SIZE + 2
        assert picture.mask[y0:y1, x0:x1].mean() > 0.3


def test_what_stands_behind_is_the_same_whatever_the_thing(monkeypatch):
    """Nothing of the backdrop depends on the class: it cannot give the class away."""
    monkeypatch.setattr(ObjectPicture, '_camera', lambda self: None)
    pictures = [ObjectPicture([4, 2], name) for name in CLASSES]
    behind = [p.image for p in pictures]
    free = ~np.any([cv2.dilate(p.mask.astype(np.uint8), np.ones((5, 5))) for p in pictures], axis=0)
    assert free.mean() > 0.2
    assert all(np.array_equal(b[free], behind[0][free]) for b in behind)
    assert not np.array_equal(pictures[0].mask, pictures[1].mask)


def test_hues_do_not_tell_the_class():
    hues = {}
    for name in CLASSES:
        pictures = [ObjectPicture([6, i], name, 64) for i in range(24)]
        colours = np.array([p.image[p.mask].mean(0) for p in pictures])
        hues[name] = colours.argmax(1)
    # Each of blue, green and red prevails in some pictures of each class.
    assert all(len(set(h)) == 3 for h in hues.values()), hues


@pytest.mark.parametrize(
    ('name', 'size', 'message'), [('cat', 64, "name='cat'.*fish"), ('car', 8, 'size=8')]
)
def test_impossible_pictures_are_refused(name, size, message):
    with pytest.raises(ValueError, match=message):
        ObjectPicture([0], name, size)


# -- the folder -----------------------------------------------------------------------------------


def test_written_boxes_are_those_of_the_masks(objects):
    text = json.loads((objects / 'boxes.json').read_text())
    assert tuple(text['classes']) == CLASSES
    assert len(text['boxes']) == 24
    for path, box in text['boxes'].items():
        split, name, file = path.split('/')
        picture = ObjectPicture(picture_seed(0, split, int(Path(file).stem)), name, 48)
        rows, columns = np.nonzero(picture.mask)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.array_equal(cv2.imread(str(objects / path)), picture.image)


def test_classes_are_balanced_and_take_turns(objects):
    for split, count in SIZES.items():
        dataset = DemoObjectsDataset(str(objects), split, SIZES, 48)
        assert len(dataset) == count
        labels = dataset.get_gt_labels().tolist()
        assert labels[:8] == list(range(8))
        assert set(Counter(labels).values()) == {count // 8}
        assert dataset.CLASSES == CLASSES
        sample = dataset.get_data_info(3)
        assert Path(sample['img_path']) == objects / split / 'car/00003.png'
        assert sample['gt_bboxes'].dtype == np.float32
        assert sample['gt_bboxes'].shape == (1, 4)
    assert len(DemoObjectsDataset(str(objects), 'train', SIZES, 48, indices=8)) == 8
    with pytest.raises(ValueError, match=r"split='test'.*train, val"):
        DemoObjectsDataset(str(objects), 'test', SIZES, 48)


def test_objects_are_written_once(objects, monkeypatch):
    def refuse(*args):
        raise PermissionError('read-only file system')

    # What is there needs no right to write.
    monkeypatch.setattr(generated, 'FileLock', refuse)
    stamp = {p: p.stat().st_mtime_ns for p in objects.rglob('*')}
    assert generate_demo_objects(objects, SIZES, 48) == objects
    assert {p: p.stat().st_mtime_ns for p in objects.rglob('*')} == stamp


def test_objects_overwrite_nothing(objects, tmp_path):
    with pytest.raises(
        DataFolderError, match=r'is not the demo data set of the config.*DEMO_OBJECTS_ROOT'
    ):
        generate_demo_objects(objects, dict(train=4), 48)
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'thesis.txt').write_text('precious')
    with pytest.raises(DataFolderError, match='Move it away'):
        generate_demo_objects(mine, SIZES)
    assert [p.name for p in mine.iterdir()] == ['thesis.txt']
    for sizes, size, message in ((dict(train=0), 48, 'sizes='), (SIZES, 16, 'image_size=16')):
        with pytest.raises(ValueError, match=message):
            generate_demo_objects(tmp_path / 'none', sizes, size)
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(
    ('lost', 'message'),
    [
        ('train/fish/00005.png', r'train holds 15 of the 16'),
        ('boxes.json', r'holds 0 of the 1 boxes\.json'),
    ],
)
def test_objects_that_lost_a_file_are_named(objects, lost, message):
    (objects / lost).unlink()
    with pytest.raises(DataFolderError, match=message):
        generate_demo_objects(objects, SIZES, 48)


def test_objects_are_whole_or_not_there(tmp_path, monkeypatch):
    def disk_full(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(demo_objects, '_write_picture', disk_full)
    with pytest.raises(OSError, match='No space'):
        generate_demo_objects(tmp_path / 'objects', SIZES)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != '.lock'] == []


def _generate(root):
    generate_demo_objects(root, SIZES, 48)
    return len(list(root.rglob('*.png')))


@pytest.mark.skipif(sys.platform == 'win32', reason='forks')
def test_a_second_process_waits_for_the_lock(tmp_path):
    root = tmp_path / 'objects'
    # A fork, for speed: it draws nothing, so that no library's threads are missed.
    with multiprocessing.get_context('fork').Pool(1) as pool:
        with FileLock(f'{root}.lock'):
            other = pool.apply_async(_generate, (root,))
            with pytest.raises(multiprocessing.TimeoutError):
                other.get(1)
            assert [p.name for p in tmp_path.iterdir()] == ['objects.lock']
            generate_demo_objects(tmp_path / 'drawn', SIZES, 48).rename(root)
            stamp = (root / 'boxes.json').stat().st_mtime_ns
        assert other.get(30) == 24
    assert (root / 'boxes.json').stat().st_mtime_ns == stamp
    assert not list(tmp_path.glob('*.part-*'))


# -- its users ------------------------------------------------------------------------------------


def test_config_of_the_data_set(objects, monkeypatch):
    monkeypatch.setenv('DEMO_OBJECTS_ROOT', str(objects))
    cfg = Config.fromfile(ROOT / 'configs/_base_/datasets/demo_objects.py')
    cfg.default_scope = 'mmpretrain'
    init_default_scope('mmpretrain')
    small = dict(sizes=SIZES, image_size=48)
    cfg.train_dataloader.dataset.pipeline[1].prob = 1.0
    train, val = (DATASETS.build({**cfg[f'{s}_dataloader'].dataset, **small}) for s in ('train', 'val'))
    x0, y0, x1, y1 = train.get_data_info(0)['gt_bboxes'][0]
    flipped = train.pipeline.transforms[1](train.pipeline.transforms[0](train.get_data_info(0)))
    assert flipped['gt_bboxes'].tolist() == [[48 - x1, y0, 48 - x0, y1]]
    assert train[0]['inputs'].shape == (3, 48, 48)
    sample = val[2]['data_samples']
    assert sample.gt_label.tolist() == [2]
    assert np.array_equal(np.asarray(sample.gt_bboxes), val.get_data_info(2)['gt_bboxes'])


def test_tool_draws_folder_and_overview(tmp_path, monkeypatch, capsys):
    def tool(*args) -> None:
        script = ROOT / 'tools/dataset_converters/make_demo_objects.py'
        monkeypatch.setattr(sys, 'argv', [str(script), *map(str, args)])
        runpy.run_path(str(script), run_name='__main__')

    sizes = ('--train', 17, '--val', 8, '--test', 8, '--size', 40)
    tool(tmp_path / 'a', *sizes, '--picture', tmp_path / 'a.png')
    assert 'Ready:' in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / 'a.png')).shape == (2 * 40 + 20, 8 * 40, 3)
    for args, message in (
        ((), 'Move it away'),
        ((*sizes, '--picture', tmp_path / 'b.png', '--rows', 0), 'rows=0'),
        ((*sizes, '--picture', tmp_path / 'none/b.png'), 'No such file'),
    ):
        with pytest.raises(SystemExit, match=message):
            tool(tmp_path / 'a', *args)
