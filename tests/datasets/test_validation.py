"""Data set validation: what is certain to fail is refused, what is likely a mistake warned about, no more."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
from mmengine.dataset import Compose, ConcatDataset, RepeatDataset
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.models.losses import CrossEntropyLoss, DiceLoss
from PIL import Image
from torch import nn

import mmdla  # noqa: F401
from mmdla.datasets.folders import DataFolderError
from mmdla.datasets.validation import (
    DatasetError,
    DatasetValidator,
    Outputs,
    build_dataset,
    check_class_folders,
)

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
PACK = [dict(type='PackSegInputs')]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    """A folder of three images and label maps of 48x64 pixels."""
    for name in ('i', 'l'):
        (tmp_path / name).mkdir()
    for k in range(3):
        save(tmp_path / f'i/{k}.jpg', np.full((48, 64, 3), 40 * k))
        save(tmp_path / f'l/{k}.png', np.eye(48, 64) + k % 2)
    return tmp_path


def save(path, values, **kwargs) -> None:
    Image.fromarray(np.asarray(values, np.uint8)).save(path, **kwargs)


def config(root, pipeline=(*LOAD, *PACK), **kwargs) -> dict:
    return dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='i', seg_map_path='l'),
        metainfo=dict(classes=('a', 'b', 'c')),
        pipeline=list(pipeline),
        **kwargs,
    )


def outputs(classes=3, loss=None, **kwargs) -> Outputs:
    loss = CrossEntropyLoss() if loss is None else loss
    return Outputs(classes, 'model.decode_head.num_classes', 255, loss, kwargs.pop('channels', classes))


def validate(dataset, of=None, **kwargs) -> list[str]:
    """The warnings."""
    told = []
    dataset = build_dataset(dataset) if isinstance(dataset, dict) else dataset
    DatasetValidator(outputs() if of is None else of, told.append, **kwargs)('train', dataset)
    return told


def refused(dataset, *patterns: str, of=None) -> None:
    with pytest.raises(DatasetError) as caught:
        validate(dataset, of)
    for pattern in patterns:
        assert pattern in str(caught.value)


def test_good_data_pass_and_what_was_looked_at_is_said(root):
    validator = DatasetValidator(outputs(), pytest.fail)
    validator('train', build_dataset(config(root)))
    assert validator.report == ['train, BaseSegDataset: files of 3 samples, 3 of them read']


def test_random_numbers_are_those_of_a_run_without(root):
    pipeline = [*LOAD, dict(type='RandomCrop', crop_size=(16, 16)), *PACK]
    dataset = build_dataset(config(root, pipeline))

    def numbers():
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    wanted = numbers()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    validate(dataset)
    assert numbers() == wanted


# -- refused: certain to fail ------------------------------------------------------------------------


def test_a_folder_without_samples(root):
    with pytest.raises(DatasetError, match=r'found no sample \(.*img_path.*img_suffix=.\.tif'):
        build_dataset(config(root, img_suffix='.tif'))
    dataset = build_dataset(config(root, serialize_data=False, img_suffix='.tif'))
    refused(dataset, 'train, BaseSegDataset has no sample')


def test_advice_is_given_for_known_data_sets_only(root):
    (root / 'l/1.png').unlink()
    with pytest.raises(DatasetError) as caught:
        validate(config(root))
    assert 'docs/data.md' not in str(caught.value)


def test_a_missing_folder_says_how_to_get_the_data(root):
    broken = config(root) | dict(
        type='CityscapesDataset', data_prefix=dict(img_path='leftImg8bit/train')
    )
    broken.pop('metainfo')
    with pytest.raises(
        (DatasetError, DataFolderError), match=r'leftImg8bit.*CITYSCAPES_ROOT.*docs/data\.md'
    ):
        build_dataset(broken)


def test_settings_that_the_class_does_not_know_stay_pythons_error(root):
    with pytest.raises(TypeError, match='no_such_setting'):
        build_dataset(config(root, no_such_setting=1))


def test_missing_files_are_counted_and_the_first_is_named(root):
    (root / 'l/1.png').unlink()
    (root / 'l/2.png').unlink()
    refused(config(root), 'seg_map_path of 2 of 3 samples does not exist', 'sample 1', 'l/1.png')


def test_files_that_the_pipeline_does_not_read_may_be_missing(root):
    for path in (root / 'l').iterdir():
        path.unlink()
    assert not validate(config(root, [LOAD[0], *PACK], test_mode=True))


def test_files_in_other_storages_are_the_loaders_matter(root, monkeypatch):
    """Paths that are none of this file system: the pipeline, which knows the storage, reads one."""

    class Elsewhere(BaseSegDataset):
        def get_data_info(self, index):
            info = super().get_data_info(index)
            for key in ('img_path', 'seg_map_path'):
                info[key] = f'bucket:{info[key]}'
            return info

    class Fetch:
        def __call__(self, results):
            for key in ('img_path', 'seg_map_path'):
                results[key] = results[key].removeprefix('bucket:')
            return results

    settings = config(root)
    settings.pop('type')
    dataset = Elsewhere(**settings)
    dataset.pipeline.transforms.insert(0, Fetch())
    assert not validate(dataset)
    dataset.pipeline.transforms.pop(0)
    refused(dataset, 'img_path of 3 of 3 samples does not exist')


@pytest.mark.parametrize('name', ['i/2.jpg', 'l/2.png'])
def test_a_file_that_its_decoder_cannot_read_is_named(root, name):
    (root / name).write_bytes(b'<html>404</html>')
    refused(config(root), 'sample 2', str(root / name))


def test_colour_labels(root):
    with Image.open(root / 'l/0.png') as labels:
        labels.convert('RGB').save(root / 'l/0.png')
    refused(config(root), 'l/0.png', 'has 3 channels')


def test_labels_of_another_size(root):
    save(root / 'l/1.png', np.zeros((47, 64)))
    refused(config(root), 'l/1.png', 'the image has 48x64 pixels and the labels 47x64')


def turned(root, orientation: int, size=(48, 64)) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = np.random.default_rng(0).integers(0, 255, (*size, 3))
    save(root / 'i/0.jpg', values, exif=exif)
    save(root / 'l/0.png', np.eye(*size))


def test_photographs_that_their_loader_turns(root):
    turned(root, 6)
    refused(config(root), 'the image has 64x48 pixels and the labels 48x64', 'EXIF orientation 6')
    # Labels that were drawn on the photograph as people see it fit.
    save(root / 'l/0.png', np.eye(64, 48))
    assert not validate(config(root))
    # A loader that leaves the photograph as it is stored fits labels that were drawn on it so.
    save(root / 'l/0.png', np.eye(48, 64))
    load = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    assert not validate(config(root, [load, LOAD[1], *PACK]))


@pytest.mark.parametrize(('orientation', 'size'), [(3, (48, 64)), (2, (48, 64)), (6, (64, 64))])
def test_photographs_whose_sizes_cannot_tell_are_warned_about(root, orientation, size):
    turned(root, orientation, size)
    (warning,) = validate(config(root))
    assert f'EXIF orientation {orientation}' in warning
    assert 'i/0.jpg' in warning


@pytest.mark.parametrize(('value', 'classes'), [(3, 3), (200, 3)])
def test_a_label_without_an_output(root, value, classes):
    labels = np.eye(48, 64)
    labels[3, 4] = value
    save(root / 'l/2.png', labels)
    refused(
        config(root),
        'l/2.png',
        f'it has the labels {value}; with model.decode_head.num_classes={classes} they must be 0 to 2, or 255',
        of=outputs(classes),
    )


def test_labels_that_the_losses_take_are_right(root):
    """Percentages, of boundaries: the loss that the head has is asked, and its reason quoted."""
    from mmdla.models import BoundaryCrossEntropyLoss

    save(root / 'l/0.png', 100 * np.eye(48, 64))
    soft = outputs(2, BoundaryCrossEntropyLoss(label_scale=100))
    save(root / 'l/1.png', 40 * np.eye(48, 64))
    save(root / 'l/2.png', 60 * np.eye(48, 64))
    assert not validate(config(root), soft)
    refused(config(root), 'percentages need label_scale=100', of=outputs(2, BoundaryCrossEntropyLoss()))
    both = nn.ModuleList([DiceLoss(), CrossEntropyLoss()])
    refused(config(root), 'the labels 100', of=outputs(2, both))


def test_the_outputs_of_models_are_their_heads(root):
    head = nn.Module()
    head.num_classes, head.ignore_index = 1, 7
    model = nn.Module()
    assert Outputs.of(model) is None
    model.decode_head = nn.ModuleList([nn.Identity(), head])
    found = Outputs.of(model)
    assert (found.num_classes, found.argument, found.ignore_index) == (
        2,
        'model.decode_head.num_classes',
        7,
    )


def test_labels_of_images_are_checked_for_all(tmp_path):
    """Class folders beyond the network's outputs, though only some samples are read."""
    pytest.importorskip('mmpretrain')
    folder = class_folders(tmp_path / 'train', 'abc')
    validate(folder, Outputs(3, 'model.head.num_classes'))
    refused(
        folder,
        'c/0.png',
        'it has the labels 2; with model.head.num_classes=2',
        of=Outputs(2, 'model.head.num_classes'),
    )


def class_folders(root, names):
    from mmpretrain.datasets import CustomDataset

    init_default_scope('mmpretrain')
    for name in names:
        (root / name).mkdir(parents=True)
        save(root / name / '0.png', np.zeros((8, 8, 3)))
    return CustomDataset(
        data_root=str(root), pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    )


def test_class_folders_need_the_same_numbers(tmp_path):
    pytest.importorskip('mmpretrain')
    told = []
    train, val = class_folders(tmp_path / 'train', 'abd'), class_folders(tmp_path / 'val', 'acd')
    with pytest.raises(DatasetError, match=r"'b' is class 1 in train data and class 0 in val data"):
        check_class_folders(dict(train=[train], val=[class_folders(tmp_path / 'v', 'bd')]), told.append)
    check_class_folders(dict(train=[train], val=[val]), told.append)
    assert "class 1 is 'b' in train data and 'c' here" in told.pop(), 'may be one class of two names'
    check_class_folders(dict(train=[train], val=[class_folders(tmp_path / 'w', 'ab')]), told.append)
    check_class_folders(dict(val=[val]), told.append)
    assert not told, 'a part of the classes, numbered alike, is no fault'
    hidden = class_folders(tmp_path / 'h', ['.cache', 'a'])
    check_class_folders(dict(train=[hidden]), told.append)
    assert len(told) == 1
    assert '.cache' in told[0]


# -- accepted: what mmseg and its users have ----------------------------------------------------------


def test_labels_of_a_lower_resolution_that_the_pipeline_resizes(root):
    for k in range(3):
        save(root / f'l/{k}.png', np.eye(24, 32))
    resize = dict(type='Resize', scale=(64, 48), keep_ratio=False)
    assert not validate(config(root, [*LOAD, resize, *PACK]))
    refused(config(root), 'the image has 48x64 pixels and the labels 24x32')


def test_labels_loaded_after_the_image_was_resized(root):
    """The order of mmseg's test pipelines."""
    pipeline = [LOAD[0], dict(type='Resize', scale=(128, 96), keep_ratio=True), LOAD[1], *PACK]
    assert not validate(config(root, pipeline, test_mode=True))


@pytest.mark.parametrize(
    ('shape', 'kind', 'how'),
    [
        ((48, 64, 6), np.uint8, {}),
        ((48, 64, 13), np.uint16, dict(photometric='minisblack', planarconfig='contig')),
        ((48, 64, 3), np.float32, {}),
        ((48, 64), np.uint16, {}),
    ],
)
def test_images_of_any_depth_and_number_of_bands(root, shape, kind, how, capfd):
    tifffile = pytest.importorskip('tifffile')
    for k in range(3):
        tifffile.imwrite(root / f'i/{k}.tif', np.full(shape, k, kind), **how)
    load = dict(type='LoadImageFromFile', imdecode_backend='tifffile', color_type='unchanged')
    assert not validate(config(root, [load, LOAD[1], *PACK], img_suffix='.tif'))
    assert not capfd.readouterr().err


def test_classes_of_a_users_own(root):
    """Suffixes in the class, and files paired in another way than by their stems."""

    class Own(BaseSegDataset):
        METAINFO = dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0]] * 3)

        def __init__(self, **kwargs):
            super().__init__(img_suffix='.jpg', seg_map_suffix='_mask.png', **kwargs)

    class Paired(Own):
        def load_data_list(self):
            return [
                dict(img_path=str(root / f'i/{k}.jpg'), seg_map_path=str(root / f'l/{2 - k}.png'), label_map=None,
                     reduce_zero_label=False, seg_fields=[]) for k in range(3)
            ]  # fmt: skip

    (root / 'own').mkdir()
    save(root / 'own/0.jpg', np.zeros((8, 8, 3)))
    save(root / 'own/0_mask.png', np.eye(8))
    pipeline = [*LOAD, *PACK]
    assert not validate(Own(data_prefix=dict(img_path=str(root / 'own'), seg_map_path=str(root / 'own')), pipeline=pipeline))  # fmt: skip
    assert not validate(Paired(pipeline=pipeline))


def test_wrapped_data_sets_are_each_validated(root):
    good, broken = build_dataset(config(root)), build_dataset(config(root))
    validate(RepeatDataset(good, 3))
    broken.pipeline.transforms.pop(1)
    broken.pipeline.transforms.insert(1, lambda results: 1 / 0)
    refused(
        ConcatDataset([good, broken]),
        'BaseSegDataset 1',
        'sample 0',
        'ZeroDivisionError',
    )


def test_data_sets_that_are_no_mmengines():
    class Four(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return dict(inputs=torch.zeros(3, 8, 8))

    class Named(Four):  # attributes and methods that mean something else
        def __init__(self, dataset):
            self.dataset = dataset

        def get_data_info(self):
            return 'four'

    for dataset in (Four(), Named('streets'), Named([(1, 2), (3, 4)])):
        validator = DatasetValidator(outputs(), pytest.fail)
        validator('train', dataset)
        assert validator.report == [f'train, {type(dataset).__name__}: 4 samples, 4 of them read']


def test_samples_are_read_by_the_data_sets_own_methods(root):
    """A pipeline that needs what a user's class adds trains, and so is valid."""

    def needs(results):
        assert results['extra']
        return results

    class Prepared(BaseSegDataset):
        def prepare_data(self, idx):
            return self.pipeline(dict(self.get_data_info(idx), extra=True))

    class Got(BaseSegDataset):
        def __getitem__(self, idx):
            return self.pipeline(dict(self.get_data_info(idx), extra=True))

    for kind in (Prepared, Got):
        dataset = kind(**{k: v for k, v in config(root).items() if k != 'type'})
        dataset.pipeline.transforms.insert(0, needs)
        transforms = list(dataset.pipeline.transforms)
        assert not validate(dataset)
        assert dataset.pipeline.transforms == transforms
        save(root / 'l/1.png', np.eye(47, 64))
        refused(dataset, 'the labels 47x64')
        save(root / 'l/1.png', np.eye(48, 64))


def test_classes_that_the_pipeline_merges(tmp_path):
    """Of 3 class folders the pipeline makes 2 classes."""
    pytest.importorskip('mmpretrain')
    dataset = class_folders(tmp_path, 'abc')
    dataset.pipeline.transforms.insert(0, lambda info: dict(info, gt_label=info['gt_label'] // 2))
    assert not validate(dataset, Outputs(2, 'model.head.num_classes'))


def test_volumes_have_labels_with_a_depth():
    class Volumes(torch.utils.data.Dataset):
        def __init__(self):
            self.pipeline = Compose(
                [lambda i: dict(img=np.zeros((1, 3, 4, 5)), gt_seg_map=self.labels)]
            )
            self.labels = np.zeros((3, 4, 5), np.uint8)

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return self.pipeline(index)

    assert not validate(Volumes())


# -- warned about: likely a mistake --------------------------------------------------------------------


def test_masks_of_0_and_255(root):
    for k in range(3):
        save(root / f'l/{k}.png', 255 * np.eye(48, 64))
    (warning,) = validate(config(root))
    assert 'the 3 samples read are 0 and 255 only' in warning


def test_far_fewer_classes_than_outputs(root):
    (warning,) = validate(config(root), outputs(19))
    assert 'has 3 classes, and model.decode_head.num_classes is 19' in warning
    assert not validate(config(root), outputs(4)), 'as many as to be meant'
