"""Files from elsewhere execute nothing, and are refused before they exhaust memory."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdla.io.boundary_files import BoundaryFileError, read_annotations, read_boundary_map
from mmdla.io.images import ImageFileError, read_image

PASCAL = 'dataset_converters/pascal_boundaries.py'


def picture(path: Path, kind: str | None = None) -> Path:
    """A picture of 40x60 pixels of noise, which no format makes small."""
    values = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, kind)
    return path


# -- images and boundary files ---------------------------------------------------------------------


@pytest.mark.parametrize('suffix', ['png', 'tif', 'bmp'])
def test_ghostscript_is_not_started(suffix, tmp_path, monkeypatch):
    """Pillow starts it for what begins like PostScript, whatever the name of the file ends in."""
    from PIL import EpsImagePlugin

    path = tmp_path / f'a.{suffix}'
    picture(path, 'EPS')
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **kwargs: pytest.fail('started'))
    with pytest.raises(BoundaryFileError, match=rf'a.{suffix}: Pillow cannot read it as labels'):
        read_annotations(path)
    with pytest.raises(BoundaryFileError, match=rf'a.{suffix}: OpenCV cannot read'):
        read_boundary_map(path)


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', b'\x89PNG\r\n\x1a\n'])
def test_what_is_no_image_is_named(content, tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match=r'a.png: OpenCV cannot read this file as an image'):
        read_image(path)
    with pytest.raises(BoundaryFileError, match=r'a.png: OpenCV cannot read this file as an image'):
        read_boundary_map(path)
    with pytest.raises(BoundaryFileError, match=r'a.png: Pillow cannot read it as labels'):
        read_annotations(path)
    with pytest.raises(FileNotFoundError, match=r'b.png: no such image'):
        read_image(tmp_path / 'b.png')


def test_images_beyond_the_limits_of_the_libraries_are_named(tmp_path, monkeypatch):
    path = picture(tmp_path / 'a.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(
        BoundaryFileError, match=r'a.png: .*limit of 2000 pixels, could be decompression'
    ):
        read_annotations(path)

    def refuse(*args):
        raise cv2.error('pixels <= CV_IO_MAX_IMAGE_PIXELS')

    # OpenCV reads its variable once, when it is imported.
    monkeypatch.setattr(cv2, 'imread', refuse)
    with pytest.raises(BoundaryFileError, match=r'a.png: .*pixels <= CV_IO_MAX_IMAGE_PIXELS'):
        read_boundary_map(path)


def test_npy_headers_allocate_nothing(tmp_path):
    path = tmp_path / 'a.npy'
    for shape in ((2**20, 2**20), (2**62, 2**62), (2**32, 2**32), (10**400, 1), (-1, -1)):
        with path.open('wb') as file:
            np.lib.format.write_array_header_1_0(
                file, dict(shape=shape, fortran_order=False, descr='<f8')
            )
            file.write(bytes(64))
        with pytest.raises(
            BoundaryFileError, match=r'a.npy: (NumPy cannot read it as .npy|a boundary map)'
        ):
            read_boundary_map(path)


def test_npy_files_unpickle_nothing(tmp_path):
    np.save(tmp_path / 'a.npy', np.array([[Explosive(tmp_path / 'exploded')]], object))
    with pytest.raises(BoundaryFileError, match=r'a.npy: NumPy cannot read it as .npy'):
        read_boundary_map(tmp_path / 'a.npy')
    assert not (tmp_path / 'exploded').exists()


class Explosive:
    """What makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


# -- text -------------------------------------------------------------------------------------------

LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'
BOX = '<object><bndbox><xmin>{}</xmin><ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object>'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (LAUGHS, 'declares entities'),
        (OUTSIDE, 'declares entities'),
        *((f'<annotation>{BOX.format(n)}</annotation>', f"'{n}' is no coordinate of a pixel")
          for n in ('nan', 'inf', '1e400', '1e300')),
        (b'<annotation>\xff</annotation>', "can't decode byte 0xff"),
    ],
)  # fmt: skip
def test_boxes_of_imagenet(text, message, tmp_path):
    pytest.importorskip('mmpretrain')
    from mmdla.datasets.boxes import ImageNetBoxes
    from mmdla.datasets.folders import DataFolderError

    for folder in ('val/a', 'Annotations/CLS-LOC/val'):
        (tmp_path / folder).mkdir(parents=True)
    picture(tmp_path / 'val/a/1.JPEG', 'JPEG')
    path = tmp_path / 'Annotations/CLS-LOC/val/1.xml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataFolderError, match=rf'1.xml holds no boxes: .*{message}'):
        ImageNetBoxes(str(tmp_path), split='val', classes=['a'])


@pytest.mark.parametrize('line', ['1 nan 2 3 4', 'nan 1 2 3 4', 'inf 1 2 3 4', '1 1 2 1e300 4'])
def test_boxes_of_cub(line, tmp_path):
    pytest.importorskip('mmpretrain')
    from mmdla.datasets.boxes import CUBBoxes
    from mmdla.datasets.folders import DataFolderError

    (tmp_path / 'images').mkdir()
    for name, text in dict(images='1 1.jpg', image_class_labels='1 1', train_test_split='1 1').items():
        (tmp_path / f'{name}.txt').write_text(text)
    (tmp_path / 'bounding_boxes.txt').write_text(line)
    with pytest.raises(
        DataFolderError, match=rf"bounding_boxes.txt: the line '{line}' must be: number"
    ):
        CUBBoxes(str(tmp_path), split='train')


def test_boxes_of_cub_that_are_no_text(tmp_path):
    pytest.importorskip('mmpretrain')
    from mmdla.datasets.boxes import CUBBoxes
    from mmdla.datasets.folders import DataFolderError

    (tmp_path / 'images').mkdir()
    for name in ('images', 'image_class_labels', 'train_test_split'):
        (tmp_path / f'{name}.txt').write_text('1 1')
    (tmp_path / 'bounding_boxes.txt').write_bytes(b'\x80 1 2 3 4')
    with pytest.raises(DataFolderError, match=r'bounding_boxes.txt is not a text file'):
        CUBBoxes(str(tmp_path), split='train')


def detail(path: Path, mask: object, name: str = 'a.jpg') -> Path:
    """An annotation file of PASCAL in Detail, of one image."""
    images = [dict(image_id=0, file_name=name, phase='train')]
    path.write_text(
        json.dumps(dict(images=images, annos_boundary=[dict(image_id=0, boundary_mask=mask)]))
    )
    return path


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        (
            dict(size=[10**6, 10**6], counts=[10**12]),
            r'its size is \[1000000, 1000000\], that of its image \(4, 5\)',
        ),
        (
            dict(size=[10**6, 10**6], counts='0'),
            r'its size is \[1000000, 1000000\], that of its image \(4, 5\)',
        ),
        (dict(size=[-4, -5], counts=[20]), r'its size is \[-4, -5\], that of its image \(4, 5\)'),
        (dict(size=[4], counts=[20]), r'its size is \[4\], that of its image'),
        (dict(size=[4, 5], counts=[10.0, 10]), 'runs must be whole numbers'),
        (dict(size=[4, 5], counts=[10**5000]), r'runs of 10\*\*18 or more pixels in all, for 4x5'),
        (dict(size=[4, 5], counts='o' * 10**6), 'it has a number of more than 60 bits'),
        (dict(size=[4, 5], counts=None), 'is not run-length code'),
        ('text', 'is not run-length code'),
        (None, 'is not run-length code'),
    ],
)
def test_masks_of_pascal(mask, message, tmp_path, run_tool, monkeypatch):
    pytest.importorskip('mmseg')
    if hasattr(sys, 'set_int_max_str_digits'):  # so that the file gets as far as the converter's checks
        sys.set_int_max_str_digits(0)
    path = detail(tmp_path / 'detail.json', mask)
    Image.new('RGB', (5, 4)).save(tmp_path / 'a.jpg')
    status, text = run_tool(PASCAL, path, tmp_path, tmp_path / 'out')
    assert re.match(rf'\W*pascal_boundaries: {path}: the boundary_mask of a .*{message}', status)
    assert 'Traceback' not in text
    assert sorted(os.listdir(tmp_path)) == ['a.jpg', 'detail.json']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[' * 10**5, 'is not readable as JSON'),
        (b'\xff\xff\x00', 'is not readable as JSON'),
        ('1' * 10**5, 'is not readable as JSON|is not of PASCAL in Detail'),
        ('[]', 'is not of PASCAL in Detail'),
        ('null', 'is not of PASCAL in Detail'),
        ('{"images": 3, "annos_boundary": 4}', 'is not of PASCAL in Detail'),
        ('{"images": [{"image_id": []}], "annos_boundary": []}', 'is not of PASCAL in Detail'),
        ('{"images": [3], "annos_boundary": []}', 'is not of PASCAL in Detail'),
        (
            '{"images": [{"image_id": 1, "file_name": "a", "phase": []}],'
            '"annos_boundary": [{"image_id": 1, "boundary_mask": 1}]}',
            'is not of PASCAL in Detail',
        ),
        (
            '{"images": [{"image_id": 1, "file_name": "a", "phase": 1},'
            '{"image_id": 1, "file_name": "b", "phase": "c"}],'
            '"annos_boundary": [{"image_id": 1, "boundary_mask": 1}]}',
            "has boundaries of phases .'1', 'c'.",
        ),
    ],
)
def test_files_of_pascal(text, message, tmp_path, run_tool):
    pytest.importorskip('mmseg')
    path = tmp_path / 'detail.json'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, _ = run_tool(PASCAL, path, tmp_path, tmp_path / 'out')
    assert re.match(rf'pascal_boundaries: {path} ({message})', status)


@pytest.mark.parametrize('name', ['..', 'a\nb', 'a\0b', '\ud800', ''])
def test_names_of_pascal(name, tmp_path, run_tool):
    pytest.importorskip('mmseg')
    path = detail(tmp_path / 'detail.json', None, name)
    status, _ = run_tool(PASCAL, path, tmp_path, tmp_path / 'out')
    assert re.match(rf'pascal_boundaries: {path}: .* must be a name without folder and suffix', status)
    status.encode()


@pytest.mark.parametrize('which', ['manifest', 'boxes'])
@pytest.mark.parametrize(
    'text', ['[' * 10**5, 'no', '{"boxes": 3}', '{"boxes": {"train/cat/1.png": 3}}']
)
def test_lists_of_the_generated_pictures(which, text, tmp_path):
    pytest.importorskip('mmpretrain')
    from mmdla.datasets.demo_objects import DemoObjectsDataset, generate_demo_objects
    from mmdla.datasets.folders import DataFolderError

    sizes = dict(train=8)
    generate_demo_objects(tmp_path / 'data', sizes, 32)
    name = dict(manifest='demo_objects.json', boxes='boxes.json')[which]
    (tmp_path / f'data/{name}').write_text(text)
    with pytest.raises(DataFolderError, match=name):
        DemoObjectsDataset(str(tmp_path / 'data'), 'train', sizes, 32)


def test_lists_of_boundaries_that_are_no_text(tmp_path):
    pytest.importorskip('mmseg')
    from mmdla.datasets import PASCALBoundariesDataset
    from mmdla.datasets.folders import DataFolderError

    for name in ('images', 'labels'):
        (tmp_path / f'train_{name}.txt').write_bytes(b'\xff\xff')
    with pytest.raises(DataFolderError, match=r'The list .*train_images.txt is no text'):
        PASCALBoundariesDataset(str(tmp_path), 'train')
    for content in (b'a\0b', b'a' * 10**4):
        for name in ('images', 'labels'):
            (tmp_path / f'train_{name}.txt').write_bytes(content)
        with pytest.raises(DataFolderError, match=r'1 of 1 images .* are missing'):
            PASCALBoundariesDataset(str(tmp_path), 'train')
