"""What the data sets find: behind links, in lists of any editor, whatever the case of the suffix."""

from __future__ import annotations

import codecs
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmseg')
from mmseg.datasets import BaseSegDataset
from PIL import Image

from mmdla.datasets import (
    BSDS500Dataset,
    CamVidDataset,
    DataFolderError,
    DemoStreetsDataset,
    PASCALBoundariesDataset,
)

SIZES = dict(train=3)
# Folders of images and labels, and what their names end in.
FOLDERS = {
    'camvid': ('train', 'trainannot', '.png', '.png'),
    'bsds': ('images/train', 'groundTruth/train', '.jpg', '.png'),
    'pascal': ('images', 'labels', '.jpg', '.png'),
    'streets': ('leftImg8bit/train', 'gtFine/train', '_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
}


def write(path: Path, *channels: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 10, *channels), np.uint8)).save(path)


class Data:
    """One of the data sets in a folder of its own, with three images."""

    def __init__(self, kind: str, root: Path):
        self.kind, self.root = kind, root
        images, labels, self.img_suffix, self.seg_map_suffix = FOLDERS[kind]
        self.images, self.labels = root / images, root / labels
        self.prefix = dict(img_path=images, seg_map_path=labels)
        self.names = ['a', 'b', 'c']
        if kind == 'streets':
            self.names = [f'demo/demo_00000{i}_000000' for i in range(3)]
            return
        for name in self.names:
            write(self.images / f'{name}{self.img_suffix}', 3)
            write(self.labels / f'{name}{self.seg_map_suffix}')

    def build(self, labels: bool = True, **kwargs):
        """The data set, its labels' folder named or not."""
        prefix = self.prefix if labels else dict(img_path=self.prefix['img_path'])
        # serializing collects garbage, which takes half a second
        kwargs = dict(data_prefix=prefix, pipeline=[], serialize_data=False) | kwargs
        kwargs |= dict(data_root=str(self.root))
        if self.kind == 'streets':
            return DemoStreetsDataset(sizes=SIZES, image_size=(32, 32), **kwargs)
        kinds = dict(camvid=CamVidDataset, bsds=BSDS500Dataset, pascal=PASCALBoundariesDataset)
        return kinds[self.kind](**kwargs)

    def found(self, **kwargs) -> list[str]:
        """Names of the images, which are there and have the labels of their name."""
        names = []
        for info in self.build(**kwargs):
            assert os.path.isfile(info['img_path'])
            names.append(os.path.relpath(info['img_path'], self.images)[: -len(self.img_suffix)])
            if kwargs.get('labels', True):
                assert info['seg_map_path'] == str(self.labels / f'{names[-1]}{self.seg_map_suffix}')
                assert os.path.isfile(info['seg_map_path'])
            else:
                assert 'seg_map_path' not in info
        return names


@pytest.fixture(params=FOLDERS)
def data(request, tmp_path) -> Data:
    found = Data(request.param, tmp_path / 'data')
    found.build()  # what is drawn is drawn
    return found


@pytest.fixture(params=[kind for kind in FOLDERS if kind != 'streets'])
def own(request, tmp_path) -> Data:
    """Of those whose files are a user's."""
    return Data(request.param, tmp_path / 'data')


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='.*(images|label maps)')
        yield


def test_what_mmseg_finds(data):
    theirs = dict(img_suffix=data.img_suffix, seg_map_suffix=data.seg_map_suffix, pipeline=[])
    theirs |= dict(data_root=str(data.root), data_prefix=data.prefix, serialize_data=False)
    (data.root / 'part.txt').write_text('\n'.join(data.names[:0:-1]) + '\n')
    for ann_file, names in (('', data.names), ('part.txt', data.names[:0:-1])):
        ours = data.build(ann_file=ann_file)
        infos = [info | dict(label_map=None) for info in ours]
        assert infos == list(BaseSegDataset(ann_file=ann_file, **theirs))
        assert data.found(ann_file=ann_file) == names
    assert data.found(indices=2) == data.names[:2]


def test_links(own, tmp_path):
    """To folders, in folders behind links, to files, and the data set's own folders as links."""
    data = own
    for folder, suffix, channels in (
        (data.images, data.img_suffix, (3,)), (data.labels, data.seg_map_suffix, ())
    ):  # fmt: skip
        away = tmp_path / 'away' / folder.parts[-2] / folder.name
        write(away / f'deep/d{suffix}', *channels)
        write(away / f'e{suffix}', *channels)
        (away / 'deep/deeper').symlink_to(tmp_path / 'far' / folder.parts[-2] / folder.name)
        write(tmp_path / 'far' / folder.parts[-2] / folder.name / f'f{suffix}', *channels)
        (folder / 'evening').symlink_to(away)
        (folder / f'g{suffix}').symlink_to(away / f'e{suffix}')
        hidden = folder / f'._a{suffix}'
        hidden.write_bytes(b'')  # as macOS leaves them
        folder.rename(tmp_path / f'moved-{folder.parent.name}-{folder.name}')
        folder.symlink_to(tmp_path / f'moved-{folder.parent.name}-{folder.name}')
    assert data.found() == ['a', 'b', 'c', 'evening/deep/d', 'evening/deep/deeper/f', 'evening/e', 'g']
    (data.root / 'part.txt').write_text('evening/deep/deeper/f\ng\n')
    assert data.found(ann_file='part.txt') == ['evening/deep/deeper/f', 'g']


LISTS = {
    'as mmseg writes them': lambda names: '\n'.join(names).encode(),
    'byte order mark': lambda names: codecs.BOM_UTF8 + '\n'.join(names).encode(),
    'CRLF, an empty line, spaces': lambda names: (
        '\r\n\r\n'.join(f' {n}\t' for n in names) + '\r\n'
    ).encode(),
    'CR': lambda names: '\r'.join(names).encode(),
    'UTF-16': lambda names: '\r\n'.join(names).encode('utf-16'),
    'backslashes': lambda names: '\n'.join('.\\' + n for n in names).encode(),
    'dots': lambda names: '\n'.join(f'./{n}' for n in names).encode(),
}


@pytest.mark.parametrize('kind', LISTS)
@pytest.mark.parametrize('labels', [True, False])
def test_lists_of_any_editor(data, kind, labels):
    wanted = [data.names[2], data.names[0]]
    (data.root / 'part.txt').write_bytes(LISTS[kind](wanted))
    assert data.found(ann_file='part.txt', labels=labels) == wanted


def test_lists_with_suffixes_folders_and_repetitions(own):
    write(own.images / f'more/d{own.img_suffix}', 3)
    write(own.labels / f'more/d{own.seg_map_suffix}')
    lines = ['more\\d', f'a{own.img_suffix}', f'a{own.img_suffix.upper()}', 'a']
    (own.root / 'part.txt').write_text('\n'.join(lines))
    assert own.found(ann_file=str(own.root / 'part.txt')) == ['more/d', 'a', 'a', 'a']
    # mmseg joins the folder and the name
    write(own.root / f'elsewhere/e{own.img_suffix}', 3)
    (own.root / 'part.txt').write_text(f'{own.root}/elsewhere/e\n')
    dataset = own.build(ann_file='part.txt', labels=False)
    assert dataset.get_data_info(0)['img_path'] == f'{own.root}/elsewhere/e{own.img_suffix}'


def test_lists_that_are_wrong(data):
    for content, message in (
        (f'{data.names[0]}\nno\nnot'.encode(), r'^2 of 3 images .* the first: .*/no[._]'),
        (b'\n \n', '^0 of 0 images'),
        (b'\xff\xffa', 'is no text in UTF-8'),
    ):
        (data.root / 'part.txt').write_bytes(content)
        with pytest.raises(DataFolderError, match=message):
            data.build(ann_file='part.txt')
    with pytest.raises(DataFolderError, match=r'The list .*no\.txt is missing.*data_root='):
        data.build(ann_file='no.txt')


def test_suffixes_in_any_case(own):
    for path, suffix in (
        (own.images / f'a{own.img_suffix}', '.PNG' if own.kind == 'camvid' else '.Jpg'),
        (own.images / f'b{own.img_suffix}', '.JPEG'),
        (own.labels / f'a{own.seg_map_suffix}', '.PNG'),
        (own.labels / f'c{own.seg_map_suffix}', '.Png'),
    ):
        path.rename(path.with_name(path.stem + suffix))
    (own.root / 'part.txt').write_text('a\nc\n')
    for dataset, names in ((own.build(), 'abc'), (own.build(ann_file='part.txt'), 'ac')):
        infos = list(dataset)
        assert [Path(info['img_path']).stem for info in infos] == list(names)
        assert [Path(info['seg_map_path']).stem for info in infos] == list(names)
        assert all(os.path.isfile(info['seg_map_path']) for info in infos)


def test_images_to_predict(own):
    """No labels: where no folder of them is named, and where a base config's is still named."""
    assert all('seg_map_path' not in info for info in own.build(labels=False))
    for path in own.labels.iterdir():
        path.unlink()
    load = [dict(type='LoadImageFromFile'), dict(type='mmseg.PackSegInputs')]
    with pytest.warns(UserWarning, match=r'^3 of 3 images .* have no label map; .*labels?|annot|Truth'):
        dataset = own.build(pipeline=load)
    assert dataset[2]['inputs'].shape == (3, 8, 10)
    own.labels.rmdir()
    with pytest.warns(UserWarning, match=r'^3 of 3 images .* have no label map'):
        own.build()
    with pytest.warns(UserWarning, match=r'^3 of 3 images .* have no label map'):
        dataset = own.build(pipeline=[*load[:1], dict(type='mmdla.LoadBoundaryAnnotations')])
    with pytest.raises(Exception, match=r'a\.(png|mat)'):
        dataset[0]


def test_files_that_are_passed_over_are_counted(own):
    (own.images / f'a{own.img_suffix}').rename(own.images / 'a.tif')
    with pytest.warns(UserWarning, match=rf'^1 label maps in .*; the first: a{own.seg_map_suffix}'):
        assert len(own.build()) == 2
    (own.images / 'a.tif').rename(own.images / f'a{own.img_suffix}')
    (own.images / 'evening').symlink_to(own.root / 'nowhere')
    write(own.labels / f'evening/d{own.seg_map_suffix}')
    with pytest.warns(UserWarning, match=r'^1 label maps in .*; the first: evening/d'):
        assert len(own.build()) == 3
    (own.labels / f'evening/d{own.seg_map_suffix}').unlink()
    write(own.images / 'a.jpeg', 3)
    with pytest.warns(
        UserWarning, match=r'^1 images in .* another of the same stem; the first: a\.jpeg'
    ):
        assert own.found() == ['a', 'b', 'c']


def test_folders_of_annotators_have_their_image(tmp_path):
    data = Data('bsds', tmp_path)
    (data.labels / 'b.png').unlink()
    for i in range(2):
        write(data.labels / f'b/{i}.png')
    (data.labels / 'c.MAT').touch()  # comes first in seg_map_suffix
    assert [Path(i['seg_map_path']).name for i in data.build()] == ['a.png', 'b', 'c.MAT']


def test_a_list_over_both_splits(tmp_path):
    data = Data('bsds', tmp_path)
    write(tmp_path / 'images/val/v.jpg', 3)
    write(tmp_path / 'groundTruth/val/v.png')
    (tmp_path / 'part.txt').write_text('v\nb\n')
    dataset = BSDS500Dataset(str(tmp_path), 'trainval', ann_file='part.txt', pipeline=[])
    assert [Path(i['img_path']).stem for i in dataset] == ['v', 'b']
    (tmp_path / 'part.txt').write_text('val/v\ntrain/b\n')
    dataset = BSDS500Dataset(str(tmp_path), ann_file='part.txt', pipeline=[])
    assert [Path(i['seg_map_path']).stem for i in dataset] == ['v', 'b']
    assert data.found() == ['a', 'b', 'c']


@pytest.mark.parametrize('kind', LISTS)
def test_pascal_s_own_lists_of_any_editor(tmp_path, kind):
    data = Data('pascal', tmp_path)
    for what, suffix in (('images', '.jpg'), ('labels', '.png')):
        (tmp_path / f'train_{what}.txt').write_bytes(LISTS[kind]([f'{what}/{n}{suffix}' for n in 'ca']))
    dataset = PASCALBoundariesDataset(str(tmp_path), pipeline=[])
    assert [Path(i['img_path']).stem for i in dataset] == ['c', 'a']
    assert data.found() == ['a', 'b', 'c']
