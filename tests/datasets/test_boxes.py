"""ImageNet and CUB with boxes, and transforms that move boxes with the image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpretrain')
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from mmdla.datasets.boxes import CUBBoxes, ImageNetBoxes
from mmdla.datasets.folders import DataFolderError
from mmdla.datasets.transforms.boxes import (
    BoxCenterCrop,
    BoxRandomCrop,
    BoxRandomResizedCrop,
    BoxResizeEdge,
)
from mmdla.datasets.validation import DatasetError, build_dataset

CAT, DOG = 'n00000001', 'n00000002'


def write_xml(path, *objects, size=(80, 60)) -> None:
    """A file as ILSVRC's, of (name, xmin, ymin, xmax, ymax)."""
    body = ''.join(
        f'<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>'
        f'<ymax>{y1}</ymax></bndbox></object>'
        for name, x0, y0, x1, y1 in objects
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{body}</annotation>'
    )


def write_images(*paths) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))


@pytest.fixture
def imagenet(tmp_path):
    """Two classes: a training folder, and validation images without class folders."""
    root = tmp_path / 'imagenet'
    write_images(*(root / f'train/{c}/{c}_{i}.png' for c in (CAT, DOG) for i in range(2)))
    write_images(*(root / f'val/val_{i}.png' for i in range(2)))
    (root / 'meta').mkdir()
    (root / 'meta/val.txt').write_text('val_0.png 0\nval_1.png 1\n')
    boxes = root / 'Annotations/CLS-LOC'
    write_xml(boxes / f'train/{CAT}/{CAT}_0.xml', (CAT, 10, 20, 29, 39), (CAT, 0, 0, 79, 59))
    write_xml(boxes / f'train/{CAT}/{CAT}_1.xml', (DOG, 1, 1, 5, 5), (CAT, 1.5, 2, 1.5, 2))
    write_xml(boxes / f'train/{DOG}/{DOG}_0.xml', ('Scottish_deerhound', 30, 40, 20, 10))
    write_xml(boxes / f'train/{DOG}/{DOG}_1.xml', (DOG, -5, 50, 90, 70), (DOG, 80, 0, 90, 9))
    write_xml(boxes / 'val/val_0.xml', (CAT, 1, 2, 3, 4))
    write_xml(boxes / 'val/val_1.xml', (DOG, 5, 6, 7, 8), (DOG, 0, 0, 1, 1))
    return root


def boxes_of(dataset) -> list:
    boxes = [dataset.get_data_info(i)['gt_bboxes'] for i in range(len(dataset))]
    assert all(b.dtype == np.float32 for b in boxes)
    return [b.tolist() for b in boxes]


def test_imagenet_boxes_by_hand(imagenet):
    train = ImageNetBoxes(str(imagenet), split='train', classes=['cat', 'dog'])
    assert boxes_of(train) == [
        [[10, 20, 30, 40], [0, 0, 80, 60]],
        [[1.5, 2, 2.5, 3]],
        [[20, 10, 31, 41]],
        [[0, 50, 80, 60]],
    ]
    assert train.get_gt_labels().tolist() == [0, 0, 1, 1]
    val = ImageNetBoxes(str(imagenet), split='val')
    assert boxes_of(val) == [[[1, 2, 4, 5]], [[5, 6, 8, 9], [0, 0, 2, 2]]]
    flat = ImageNetBoxes(str(imagenet), data_prefix='val', ann_file='meta/val.txt')
    assert boxes_of(flat) == boxes_of(val), 'the boxes of val are the default'


def test_validation_images_in_class_folders(imagenet):
    for name, wnid in (('val_0', CAT), ('val_1', DOG)):
        (imagenet / f'val/{wnid}').mkdir()
        (imagenet / f'val/{name}.png').rename(imagenet / f'val/{wnid}/{name}.png')
    (imagenet / 'meta/val.txt').unlink()
    val = ImageNetBoxes(str(imagenet), split='val', classes=['cat', 'dog'])
    assert boxes_of(val) == [[[1, 2, 4, 5]], [[5, 6, 8, 9], [0, 0, 2, 2]]]


def test_boxes_elsewhere(imagenet):
    (imagenet / 'Annotations').rename(imagenet / 'boxes')
    val = ImageNetBoxes(str(imagenet), split='val', box_prefix='boxes/CLS-LOC/val')
    assert len(val) == 2
    with pytest.raises(
        DataFolderError, match=r'folder of boxes is missing: .*CLS-LOC/val.*IMAGENET_ROOT'
    ):
        ImageNetBoxes(str(imagenet), split='val')


def test_thresholds_are_not_chosen_on_what_they_are_reported_on(imagenet):
    names = [f'val_{i}.png' for i in range(2, 12)]
    write_images(*(imagenet / 'val' / name for name in names))
    for name in names:
        write_xml(imagenet / f'Annotations/CLS-LOC/val/{name[:-4]}.xml', (CAT, 1, 2, 3, 4))
    with (imagenet / 'meta/val.txt').open('a') as file:
        file.writelines(f'{name} 0\n' for name in names)

    def paths(subset):
        dataset = ImageNetBoxes(str(imagenet), split='val', subset=subset)
        return [dataset.get_data_info(i)['img_path'][-9:].lstrip('/') for i in range(len(dataset))]

    everything = paths(None)
    assert paths('calibration') == [everything[0], everything[5], everything[10]]
    assert sorted(paths('calibration') + paths('evaluation')) == sorted(everything)
    with pytest.warns(DeprecationWarning, match='deprecated') as warned:
        old = ImageNetBoxes(str(imagenet), split='val', part='choose')
    assert old.subset == 'calibration'
    texts = [str(w.message) for w in warned]
    assert any('"part" is deprecated' in text for text in texts)
    assert any("subset='choose' is deprecated" in text for text in texts)


def test_images_without_boxes(imagenet):
    train = imagenet / 'Annotations/CLS-LOC/train'
    (train / f'{CAT}/{CAT}_0.xml').unlink()
    write_xml(train / f'{DOG}/{DOG}_1.xml', (CAT, 1, 1, 5, 5))
    arguments = dict(data_root=str(imagenet), split='train', classes=['cat', 'dog'])
    with pytest.raises(DataFolderError, match=rf'2 of 4 images have no box in .*{CAT}_0\.png.*drop'):
        ImageNetBoxes(**arguments)
    kept = ImageNetBoxes(**arguments, without_boxes='drop')
    assert [i['img_path'][-5] for i in map(kept.get_data_info, range(len(kept)))] == ['1', '0']
    for path in train.rglob('*.xml'):
        path.unlink()
    with pytest.raises(DataFolderError, match='No image has a box'):
        ImageNetBoxes(**arguments, without_boxes='drop')


def test_files_that_are_not_boxes(imagenet):
    path = imagenet / 'Annotations/CLS-LOC/val/val_1.xml'
    write_xml(path, (DOG, 5, 6, 7, 8), (CAT, 0, 0, 1, 1))
    with pytest.raises(DataFolderError, match=rf"val_1.xml holds no boxes: .*\['{CAT}', '{DOG}'\]"):
        ImageNetBoxes(str(imagenet), split='val')
    for text in ('<annotation>', '<annotation><object><name>a</name></object></annotation>', 'nothing'):
        path.write_text(text)
        with pytest.raises(DataFolderError, match=r'val_1.xml holds no boxes: '):
            ImageNetBoxes(str(imagenet), split='val')
    write_xml(path, (DOG, 'left', 6, 7, 8))
    with pytest.raises(DataFolderError, match="'left'"):
        ImageNetBoxes(str(imagenet), split='val')


def test_bad_arguments(imagenet):
    with pytest.raises(ValueError, match="without_boxes='skip' must be 'raise' or 'drop'"):
        ImageNetBoxes(str(imagenet), split='val', without_boxes='skip')
    with pytest.raises(ValueError, match="subset='half' must be 'calibration', 'evaluation' or None"):
        ImageNetBoxes(str(imagenet), split='val', subset='half')
    with pytest.raises(ValueError, match=r"split='test'.*need labels"):
        ImageNetBoxes(str(imagenet), split='test')


@pytest.fixture
def cub(tmp_path):
    root = tmp_path / 'cub'
    names = [f'{c}/{c}_{i}.png' for c in ('001.A', '002.B') for i in range(2)]
    write_images(*(root / 'images' / name for name in names))
    (root / 'images.txt').write_text(''.join(f'{i + 1} {n}\n' for i, n in enumerate(names)))
    (root / 'image_class_labels.txt').write_text('1 1\n2 1\n3 2\n4 2\n')
    (root / 'train_test_split.txt').write_text('1 1\n2 0\n3 1\n4 0\n')
    (root / 'bounding_boxes.txt').write_text(
        '1 60.0 27.0 10.0 20.5\n2 0.0 1.0 80.0 59.0\n3 1.0 1.0 2.0 2.0\n4 5.0 6.0 7.0 8.0\n'
    )
    return root


def test_cub_boxes_by_hand(cub):
    assert boxes_of(CUBBoxes(data_root=str(cub), split='train')) == [
        [[60, 27, 70, 47.5]],
        [[1, 1, 3, 3]],
    ]
    test = CUBBoxes(data_root=str(cub), split='test')
    assert boxes_of(test) == [[[0, 1, 80, 60]], [[5, 6, 12, 14]]]
    assert test.get_gt_labels().tolist() == [0, 1]


def test_cub_in_two_subsets(cub):
    def count(subset):
        return len(CUBBoxes(data_root=str(cub), split='train', subset=subset))

    assert count('calibration') >= 1
    assert count('calibration') + count('evaluation') == count(None)
    with pytest.raises(ValueError, match="subset='half'"):
        count('half')


def test_cub_names_what_is_wrong(cub):
    path = cub / 'bounding_boxes.txt'
    lines = path.read_text().splitlines(keepends=True)
    for changed, message in (
        (lines[:3], 'has no box of image 4'),
        ([*lines[:3], '4 1 2 3\n'], "the line '4 1 2 3' must be: number x y width height"),
        ([*lines[:3], '4 1 2 0 3\n'], "the box of line '4 1 2 0 3' has no area"),
    ):
        path.write_text(''.join(changed))
        with pytest.raises(DataFolderError, match=f'{message}.*CUB200_ROOT'):
            CUBBoxes(data_root=str(cub), split='test')
    path.unlink()
    with pytest.raises(DataFolderError, match=r'bounding_boxes\.txt is missing'):
        CUBBoxes(data_root=str(cub), split='test')


def test_missing_boxes_are_reported_as_the_data_set_is_built(imagenet, cub):
    for dataset, path in (
        (dict(type='CUBBoxes', data_root=str(cub), split='test'), cub / 'bounding_boxes.txt'),
        (
            dict(type='mmdla.ImageNetBoxes', data_root=str(imagenet), split='val'),
            imagenet / 'Annotations/CLS-LOC/val',
        ),
    ):
        init_default_scope('mmpretrain')
        build_dataset(dataset)
        path.rename(path.with_name('elsewhere'))
        kind = dataset['type'].rpartition('.')[2]
        with pytest.raises(
            (DataFolderError, DatasetError), match=rf'{path.name}.*{kind} reads'
        ) as caught:
            build_dataset(dataset)
        assert '_ROOT' in str(caught.value)
        path.with_name('elsewhere').rename(path)


# -- transforms -----------------------------------------------------------------------------------


def drawn(box, height=90, width=120) -> dict:
    """A picture with a white rectangle, and its box."""
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[max(y0, 0) : y1, max(x0, 0) : x1] = 255
    return dict(img=image, gt_bboxes=np.array([box], np.float32), img_shape=(height, width))


def box_in(image) -> list:
    """The box of what is more white than black."""
    rows, columns = np.nonzero(image[..., 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def check(transform, box=(30, 24, 75, 66), times=30, slack=0.0, **size) -> int:
    """Apply a transform; compare drawn and moved boxes. How often the box was still there."""
    there = 0
    for _ in range(times):
        results = transform(drawn(box, **size))
        boxes = results['gt_bboxes']
        assert boxes.dtype == np.float32
        assert boxes.shape[1] == 4
        if len(boxes) == 0:
            # All that may be left is less than half a pixel.
            assert (results['img'] > 127).mean() < 0.02
            continue
        there += 1
        height, width = results['img'].shape[:2]
        assert (boxes >= 0).all()
        assert (boxes <= [width, height] * 2).all()
        if (boxes[0, 2:] - boxes[0, :2]).min() > 2 * slack:
            np.testing.assert_allclose(boxes[0], box_in(results['img']), rtol=0, atol=slack)
    return there


@pytest.mark.parametrize('edge', ['short', 'long', 'width', 'height'])
def test_resizing_moves_the_box(edge):
    for scale in (45, 90, 128):
        check(BoxResizeEdge(scale=scale, edge=edge), times=1, slack=1)
    results = BoxResizeEdge(scale=45)(drawn((30, 24, 75, 66)))
    assert results['img'].shape[:2] == (45, 60)
    assert results['gt_bboxes'].tolist() == [[15, 12, 37.5, 33]]


def test_centre_crop_moves_the_box():
    assert check(BoxCenterCrop(crop_size=64), times=1) == 1
    assert check(BoxCenterCrop(crop_size=(150, 100), auto_pad=True), times=1) == 1
    assert check(BoxCenterCrop(crop_size=30), box=(0, 0, 40, 80), times=1) == 0
    results = BoxCenterCrop(crop_size=60)(drawn((30, 24, 75, 66)))
    assert results['gt_bboxes'].tolist() == [[0, 9, 45, 51]]


@pytest.mark.parametrize(
    'arguments',
    [
        dict(crop_size=40),
        dict(crop_size=(30, 80), padding=7),
        dict(crop_size=64, padding=(3, 9)),
        dict(crop_size=64, padding=(1, 20, 30, 4)),
        dict(crop_size=(131, 161), pad_if_needed=True),
        dict(crop_size=(131, 40), padding=(1, 20, 3, 4), pad_if_needed=True),
        dict(crop_size=200),
    ],
)
def test_random_crop_moves_the_box(arguments):
    assert check(BoxRandomCrop(**arguments)) >= 20


def test_random_resized_crop_moves_the_box():
    transform = BoxRandomResizedCrop(scale=(48, 72))
    there = check(transform, slack=4, times=100)
    assert 50 < there < 100, 'some crops miss it'
    assert check(BoxRandomResizedCrop(scale=96, crop_ratio_range=(1, 1)), slack=1, times=5) == 5


def test_boxes_are_clipped_and_those_outside_dropped():
    results = drawn((30, 24, 75, 66))
    results['gt_bboxes'] = np.array([[0, 0, 20, 10], [100, 70, 130, 95], [20, 0, 41, 16]])
    assert BoxCenterCrop(crop_size=60)(results)['gt_bboxes'].tolist() == [[0, 0, 11, 1]]
    results = drawn((100, 80, 130, 99))
    assert BoxResizeEdge(scale=90)(results)['gt_bboxes'].tolist() == [[100, 80, 120, 90]]
    results['gt_bboxes'] = np.zeros((0, 4))
    assert BoxResizeEdge(scale=45)(results)['gt_bboxes'].shape == (0, 4)


def test_the_same_as_without_boxes():
    """The image is what mmpretrain's transform makes of it, drawn from the same random numbers."""
    init_default_scope('mmpretrain')
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    for name, arguments in (
        ('ResizeEdge', dict(scale=50)),
        ('CenterCrop', dict(crop_size=50)),
        ('RandomCrop', dict(crop_size=50, padding=4)),
        ('RandomResizedCrop', dict(scale=50)),
    ):
        images = []
        for kind in (name, f'Box{name}'):
            np.random.seed(3)  # noqa: NPY002  the transforms draw from it
            transform = TRANSFORMS.build(dict(type=kind, **arguments))
            images.append(transform(dict(img=noise, gt_bboxes=np.array([[0.0, 0, 120, 90]])))['img'])
        assert np.array_equal(*images), name


def test_shared_random_numbers():
    """In mmcv's wrapper that gives several images one crop, the boxes follow that crop."""
    init_default_scope('mmpretrain')
    transform = TRANSFORMS.build(
        dict(
            type='TransformBroadcaster',
            share_random_params=True,
            auto_remap=True,
            mapping=dict(img=['a', 'b'], gt_bboxes=['boxes_a', 'boxes_b']),
            transforms=[dict(type='BoxRandomCrop', crop_size=40)],
        )
    )
    a, b = drawn((30, 24, 75, 66)), drawn((30, 24, 75, 66))
    results = transform(dict(a=a['img'], b=b['img'], boxes_a=a['gt_bboxes'], boxes_b=b['gt_bboxes']))
    assert results['boxes_a'].tolist() == results['boxes_b'].tolist() == [box_in(results['b'])]


def test_boxes_are_asked_for():
    for transform in (
        BoxResizeEdge(scale=4),
        BoxCenterCrop(crop_size=4),
        BoxRandomCrop(crop_size=4),
        BoxRandomResizedCrop(scale=4),
    ):
        name = type(transform).__name__
        with pytest.raises(ValueError, match=f'{name} needs gt_bboxes, .*use {name[3:]} without'):
            transform(dict(img=np.zeros((9, 9, 3), np.uint8)))
        with pytest.raises(ValueError, match=r'gt_bboxes of shape \(4,\) must be'):
            transform(dict(img=np.zeros((9, 9, 3), np.uint8), gt_bboxes=np.zeros(4)))


def test_a_pipeline_to_the_packed_sample(imagenet):
    init_default_scope('mmpretrain')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='mmdla.BoxResizeEdge', scale=30),
        dict(type='RandomFlip', prob=1.0),
        dict(type='BoxCenterCrop', crop_size=30),
        dict(type='PackInputs', algorithm_keys=['gt_bboxes']),
    ]
    dataset = DATASETS.build(
        dict(type='ImageNetBoxes', data_root=str(imagenet), split='val', pipeline=pipeline)
    )
    sample = dataset[0]['data_samples']
    # 1-4 of 80 wide, 2-5 of 60 high: halved, flipped in 40, cut at 5: outside.
    assert sample.gt_bboxes.shape == (0, 4)
    sample = dataset[1]['data_samples']
    # 5-8 x 6-9: 2.5-4 x 3-4.5, flipped 36-37.5: outside too.
    assert sample.gt_bboxes.shape == (0, 4)
    write_xml(imagenet / 'Annotations/CLS-LOC/val/val_0.xml', (CAT, 20, 10, 39, 29))
    sample = ImageNetBoxes(str(imagenet), split='val', pipeline=pipeline)[0]
    assert sample['data_samples'].gt_bboxes.tolist() == [[15, 5, 25, 15]]
    assert sample['data_samples'].img_shape == tuple(sample['inputs'].shape[1:]) == (30, 30)
