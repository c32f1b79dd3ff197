"""Files from elsewhere execute nothing, and are refused before they exhaust memory."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import os
import pickle
import re
import struct
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmdla.checkpoints import CheckpointError, convert_released, read_checkpoint, state_dict_of
from mmdla.utils.boundaries import BoundaryFileError, read_annotations, read_boundary_map
from mmdla.utils.image_files import (
    MAX_PIXELS,
    ImageFileError,
    check_image_file,
    open_image,
)

PASCAL = 'dataset_converters/pascal_boundaries.py'
BSDS = 'dataset_converters/bsds500.py'
KINDS = dict(
    jpg='JPEG', png='PNG', bmp='BMP', tif='TIFF', webp='WEBP', ppm='PPM', gif='GIF', jp2='JPEG2000'
)


def picture(path: Path, kind: str | None = None) -> Path:
    """A picture of 40x60 pixels of noise, which no format makes small."""
    values = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, kind)
    return path


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and holds the rows of none of it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(name + data)
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', sum_)

    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes(1 << 16)))
        + chunk(b'IEND', b'')
    )
    return path


# -- images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('suffix', KINDS)
def test_whole_images_are_taken_and_cut_ones_refused(suffix, tmp_path):
    path = picture(tmp_path / f'a.{suffix}')
    assert check_image_file(path) == (40, 60)
    content = path.read_bytes()
    path.write_bytes(content + b'what a camera appends')
    check_image_file(path)
    for length in (len(content) // 3, len(content) * 2 // 3, len(content) - 40):
        path.write_bytes(content[:length])
        with pytest.raises(ImageFileError, match=f'a.{suffix}: truncated or damaged {KINDS[suffix]}'):
            check_image_file(path)


def test_chunks_of_a_png_are_as_long_as_they_say(tmp_path):
    """OpenCV allocates what a chunk claims and fills it: 1.8 GB for a PNG of 139 bytes."""
    path = picture(tmp_path / 'a.png')
    content = bytearray(path.read_bytes())
    start = content.index(b'IDAT')
    content[start - 4] = 0x70
    path.write_bytes(content)
    with pytest.raises(
        ImageFileError, match=r'a.png: truncated or damaged PNG .* of 1,87\d,\d{3},\d{3} by'
    ):
        check_image_file(path)
    with pytest.raises(BoundaryFileError, match=r'a.png: truncated or damaged PNG'):
        read_boundary_map(path)


def test_whole_images_are_not_decoded(tmp_path, monkeypatch):
    from PIL import ImageFile

    paths = [picture(tmp_path / f'a.{suffix}') for suffix in ('jpg', 'png', 'webp', 'gif')]
    monkeypatch.setattr(ImageFile.ImageFile, 'load', None)
    for path in paths:
        check_image_file(path)


def test_opencv_takes_a_cut_jpeg(tmp_path):
    """The reason why the end is looked at: if this fails, it need not be any more."""
    path = picture(tmp_path / 'a.jpg')
    path.write_bytes(path.read_bytes()[:2000])
    assert cv2.imread(str(path)) is not None


def size_in_header(path: Path) -> tuple[int, int]:
    with open_image(path) as image:
        return image.size[::-1]


def test_images_are_refused_by_the_size_in_their_header(tmp_path, monkeypatch):
    path = png_header(tmp_path / 'a.png', 30_000, 20_000)
    message = (
        rf'a.png: 20000x30000 are 600,000,000 pixels, more than the {MAX_PIXELS:,} up to which images '
        'are read; if it can be trusted, set MMDLA_MAX_PIXELS to a larger number'
    )
    for read in (check_image_file, size_in_header):
        with pytest.raises(ImageFileError, match=message):
            read(path)
    # beyond Pillow's own limit, which stays as it is
    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv('MMDLA_MAX_PIXELS', '600000000')
    assert size_in_header(path) == (20_000, 30_000)
    assert limit == Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv('MMDLA_MAX_PIXELS', '2399')
    with pytest.raises(ImageFileError, match='40x60 are 2,400 pixels, more than the 2,399'):
        check_image_file(picture(tmp_path / 'b.jpg'))
    for wrong in ('many', '-1', '0', '1e9', '9' * 5000):
        monkeypatch.setenv('MMDLA_MAX_PIXELS', wrong)
        with pytest.raises(ValueError, match=f"MMDLA_MAX_PIXELS='{wrong}' must be a number of pixels"):
            size_in_header(path)


def test_what_is_no_image_is_refused(tmp_path):
    path = tmp_path / 'a.png'
    path.touch()
    with pytest.raises(ImageFileError, match=r'a.png: the file is empty'):
        check_image_file(path)
    path.write_text('<html>404</html>')
    with pytest.raises(
        ImageFileError, match=r"a.png: no JPEG, PNG.* or JPEG2000; it starts with b'<ht"
    ):
        check_image_file(path)
    picture(path, 'JPEG')
    check_image_file(path)
    with pytest.raises(ImageFileError, match=r'a.png: no PNG; it starts with'):
        check_image_file(path, formats=('PNG',))
    with pytest.raises(FileNotFoundError):
        check_image_file(tmp_path / 'nowhere.png')


def test_ghostscript_is_not_started(tmp_path, monkeypatch):
    """Pillow starts it for what begins like PostScript, whatever the name of the file ends in."""
    from PIL import EpsImagePlugin

    path = tmp_path / 'a.png'
    picture(path, 'EPS')
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **kwargs: pytest.fail('started'))
    with pytest.raises(ImageFileError, match=r"a.png: no JPEG.* it starts with b'%!PS"):
        check_image_file(path)
    with pytest.raises(ImageFileError), open_image(path) as image:
        image.load()


# -- .mat -------------------------------------------------------------------------------------------


def element(kind: int, data: bytes) -> bytes:
    """An element of a MAT-file of level 5."""
    return struct.pack('<II', kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(cls: int, dims: tuple[int, ...], name: bytes, *parts: bytes) -> bytes:
    flags = element(6, struct.pack('<II', cls, 0))
    shape = element(5, struct.pack(f'<{len(dims)}i', *dims))
    return element(14, flags + shape + element(1, name) + b''.join(parts))


def write_mat(path: Path, *variables: bytes, compressed: bool = False) -> Path:
    header = b'MATLAB 5.0'.ljust(116) + bytes(8) + struct.pack('<H', 0x100) + b'IM'
    if compressed:
        packed = [zlib.compress(v, 9) for v in variables]
        variables = [struct.pack('<II', 15, len(p)) + p for p in packed]
    path.write_bytes(header + b''.join(variables))
    return path


ONE = matrix(6, (1, 1), b'', element(9, bytes(8)))


def nested(levels: int) -> bytes:
    """A cell in a cell in a cell ..."""
    head = matrix(1, (1, 1), b'')[8:]
    sizes = [len(ONE) + len(head) + i * (len(head) + 8) for i in range(levels)]
    return b''.join(struct.pack('<II', 14, s) + head for s in reversed(sizes)) + ONE


def boundaries(*parts: bytes) -> bytes:
    """``groundTruth`` of one annotator."""
    names = element(5, struct.pack('<i', 16)) + element(1, b'Boundaries'.ljust(16, b'\0'))
    cell = matrix(2, (1, 1), b'', names, *parts)
    return matrix(1, (1, 1), b'groundTruth', cell)


def sparse(shape: tuple[int, int], rows: list[int], columns: list[int]) -> bytes:
    return matrix(
        5, shape, b'', *(element(5, struct.pack(f'<{len(i)}i', *i)) for i in (rows, columns)),
        element(9, struct.pack(f'<{len(rows)}d', *[1.0] * len(rows))),
    )  # fmt: skip


MATS = {
    'cells to the end of the stack': (
        matrix(1, (1, 1), b'groundTruth', nested(20_000)),
        'has cells in cells, more than 16 levels',
    ),
    'numbers of no type': (
        matrix(6, (1, 1), b'groundTruth', element(60_000, bytes(8))),
        'numbers of a type 60000, which there is not',
    ),
    'text of no type': (matrix(4, (1, 4), b'groundTruth', element(8, bytes(8))), 'of a type 8'),
    'cells that are not there': (matrix(1, (2**31 - 1, 1), b'groundTruth'), 'claims to be 2147483647x1'),
    'text that is not there': (
        matrix(4, (2**30, 1), b'groundTruth', element(16, b'')), 'claims to be 1073741824x1',
    ),
    'structs that are not there': (
        matrix(2, (2**20, 2**10), b'groundTruth', element(5, struct.pack('<i', 8)), element(1, b'')),
        'claims to be 1048576x1024',
    ),
    'a negative size': (matrix(6, (-1, -1), b'groundTruth', element(9, b'')), 'claims to be -1x-1'),
    'bytes that are not there': (
        matrix(6, (1, 1), b'groundTruth', struct.pack('<II', 9, 2**31) + bytes(8)),
        'claims more bytes than there are',
    ),
    'names of fields without length': (
        matrix(2, (1, 1), b'groundTruth', element(5, struct.pack('<i', -1)), element(1, b'a')),
        'whose fields have names of 4294967295 bytes',
    ),
    'an object': (
        matrix(3, (1, 1), b'groundTruth', element(1, b'inline'), element(5, struct.pack('<i', 8))),
        'has an object or a function .class 3., which is no data',
    ),
    'a function': (matrix(16, (1, 1), b'groundTruth', ONE), 'has an object or a function .class 16.'),
    'a sparse matrix of many rows': (
        boundaries(sparse((10**9, 10), [], [0] * 11)),
        'Boundaries: 1000000000x10 are 10,000,000,000 pixels, more than',
    ),
    'a sparse matrix that points elsewhere': (
        boundaries(sparse((4, 4), [10**9], [0, 1, 1, 1, 1])), 'is a damaged sparse matrix'
    ),
    'many arrays': (
        matrix(1, (2**16, 1), b'groundTruth', element(14, b'') * 2**16), 'has more than 65536 arrays',
    ),
}  # fmt: skip


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('kind', MATS)
def test_mat_files_are_checked_before_scipy_reads_them(kind, compressed, tmp_path):
    variable, message = MATS[kind]
    path = write_mat(tmp_path / 'a.mat', ONE, variable, compressed=compressed)
    with pytest.raises(BoundaryFileError, match=rf'a\.mat: .*{message}'):
        read_annotations(path)


def test_compressed_mat_files_are_inflated_up_to_a_limit(tmp_path, monkeypatch):
    engine = zlib.compressobj(9)
    packed = b''.join([*(engine.compress(bytes(2**20)) for _ in range(2**8)), engine.flush()])
    path = tmp_path / 'a.mat'
    write_mat(path, struct.pack('<II', 15, len(packed)) + packed)
    assert path.stat().st_size < 2**19
    monkeypatch.setenv('MMDLA_MAX_PIXELS', str(2**22))
    tracemalloc.start()
    with pytest.raises(BoundaryFileError, match=r'a.mat: .* holds more than 16,777,216 bytes, up to'):
        read_annotations(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * 2**24


def test_mat_files_of_other_versions_are_refused(tmp_path):
    path = write_mat(tmp_path / 'a.mat', ONE)
    content = bytearray(path.read_bytes())
    content[124:126] = struct.pack('<H', 0x200)
    path.write_bytes(content)
    with pytest.raises(
        BoundaryFileError, match=r'a.mat: .* version 7.3, which is HDF5; save it .* -v7'
    ):
        read_annotations(path)
    content[124:128] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(BoundaryFileError, match=r'a.mat: .* header is not that of MATLAB 5 to 7'):
        read_annotations(path)


def test_mat_files_as_scipy_and_matlab_write_them_are_read(tmp_path):
    from scipy.io import savemat
    from scipy.sparse import csc_matrix

    marked = np.random.default_rng(0).random((3, 20, 30)) < 0.1
    cells = np.empty((1, 3), object)
    for i, kind in enumerate((np.uint8, np.float64, np.complex128)):
        cells[0, i] = dict(Boundaries=marked[i].astype(kind), Segmentation=marked[i], by='é€')
    cells[0, 2]['Boundaries'] = csc_matrix(marked[2].astype(float))
    for compressed in (False, True):
        content = dict(a='text', groundTruth=cells, z=np.zeros((2, 0)))
        savemat(tmp_path / 'a.mat', content, do_compression=compressed)
        assert np.array_equal(read_annotations(tmp_path / 'a.mat'), marked)


# -- annotations and maps ---------------------------------------------------------------------------


def test_annotations_and_maps_are_refused_by_their_size(tmp_path, monkeypatch):
    path = png_header(tmp_path / 'a.png', 30_000, 20_000)
    for read in (read_annotations, read_boundary_map):
        with pytest.raises(BoundaryFileError, match=r'a.png: 20000x30000 are 600,000,000 pixels, more'):
            read(path)
    many = tmp_path / 'many'
    many.mkdir()
    for i in range(4):
        Image.new('L', (20, 10)).save(many / f'{i}.png')
    monkeypatch.setenv('MMDLA_MAX_PIXELS', '799')
    with pytest.raises(BoundaryFileError, match=r'many: 4x10x20 are 800 pixels, more than the 799 up'):
        read_annotations(many)
    np.save(tmp_path / 'a.npy', np.zeros((20, 40)))
    with pytest.raises(BoundaryFileError, match=r'a.npy: 20x40 are 800 pixels, more than the 799 up'):
        read_boundary_map(tmp_path / 'a.npy')


def test_npy_headers_allocate_nothing(tmp_path):
    path = tmp_path / 'a.npy'
    for shape in ((2**20, 2**20), (2**62, 2**62), (2**32, 2**32), (10**400, 1), (-1, -1)):
        with path.open('wb') as file:
            np.lib.format.write_array_header_1_0(
                file, dict(shape=shape, fortran_order=False, descr='<f8')
            )
            file.write(bytes(64))
        with pytest.raises(
            BoundaryFileError, match=r'a.npy: (not readable as .npy|.* pixels, more than)'
        ):
            read_boundary_map(path)


def test_npy_files_unpickle_nothing(tmp_path):
    np.save(tmp_path / 'a.npy', np.array([[Explosive(tmp_path / 'exploded')]], object))
    with pytest.raises(BoundaryFileError, match=r'a.npy: not readable as .npy'):
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
        (f'<annotation>{" " * 2**20}</annotation>', 'it is of more than 1,048,576 bytes'),
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
    with pytest.raises(DataFolderError, match=r'bounding_boxes.txt is no text'):
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
            '1000000x1000000 are 1,000,000,000,000 pixels, mo',
        ),
        (dict(size=[10**6, 10**6], counts='0'), '1000000x1000000 are 1,000,000,000,000 pixels, more'),
        (dict(size=[-4, -5], counts=[20]), 'must be a height and a width'),
        (dict(size=[4.0, 5], counts=[20]), 'must be a height and a width'),
        (dict(size=[4], counts=[20]), 'must be a height and a width'),
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
    status, text = run_tool(PASCAL, path, tmp_path, tmp_path / 'out')
    assert re.match(rf'\W*pascal_boundaries: {path}: the boundary_mask of a .*{message}', status)
    assert 'Traceback' not in text
    assert os.listdir(tmp_path) == ['detail.json']


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


# -- archives ---------------------------------------------------------------------------------------


def header(name: bytes, kind: bytes, size: bytes) -> bytes:
    """The header of a member of a tar archive."""
    block = name.ljust(100, b'\0') + b'0000644\0' + b'0000000\0' * 2 + size + b'00000000000\0'
    block += b' ' * 8 + kind + bytes(100) + b'ustar\x0000' + bytes(247)
    return block[:148] + b'%06o\0 ' % sum(block) + block[156:]


ARCHIVES = {
    'a name of gigabytes': (header(b'a', b'L', b'77777777777\0'), 'a name or attributes of'),
    'attributes of gigabytes': (header(b'a', b'x', b'77777777777\0'), 'a name or attributes of'),
    'a name of negative length': (
        header(b'a', b'L', b'\xff' * 11 + b'\0'), 'a name or attributes of|is damaged, or no archive'
    ),
    'a negative size': (
        header(b'a', b'0', b'\xff' * 10 + b'\xfe\0'), 'has -512 bytes'
    ),
    'an image of gigabytes': (
        header(b'images/train/a.jpg', b'0', b'77777777777\0'), 'a.jpg. has 8,589,934,591 bytes'
    ),
    'names of names': (
        (header(b'a', b'L', b'00000000001\0') + bytes(512)) * 3000, 'is damaged, or no archive'
    ),
    'many members': (header(b'a', b'0', b'00000000000\0') * 50_001, 'has 50,001 members'),
}  # fmt: skip


@pytest.mark.parametrize('kind', ARCHIVES)
def test_archives_of_bsds(kind, tmp_path, run_tool):
    pytest.importorskip('mmseg')
    content, message = ARCHIVES[kind]
    path = tmp_path / 'a.tgz'
    path.write_bytes(gzip.compress(content + bytes(10240)))
    if kind != 'many members':  # which tracing makes slow
        tracemalloc.start()
    status, _ = run_tool(BSDS, path, tmp_path / 'out')
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.match(rf'bsds500: {path} .*({message})', status), status
    assert most < 2**27
    assert os.listdir(tmp_path) == ['a.tgz']


@pytest.mark.parametrize('cut', [3, 20, 2000])
@pytest.mark.parametrize('module', [gzip, bz2])
def test_cut_archives_of_bsds(module, cut, tmp_path, run_tool):
    pytest.importorskip('mmseg')
    path = tmp_path / 'a.tgz'
    values = np.random.default_rng(0).bytes(5000)
    content = header(b'images/train/a.jpg', b'0', b'%011o\0' % len(values)) + values + bytes(10240)
    path.write_bytes(module.compress(content)[:cut])
    status, _ = run_tool(BSDS, path, tmp_path / 'out')
    assert re.match(rf'bsds500: {path} ', status), status
    assert os.listdir(tmp_path) == ['a.tgz']


# -- checkpoints ------------------------------------------------------------------------------------


class Call:
    """What is a call when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call

    def __call__(self):
        """So that it may be what is called."""


@pytest.mark.parametrize('call', ['mkdir', 'open', 'eval', 'import', 'getattr'])
@pytest.mark.parametrize('kind', ['zip', 'legacy', 'pickle', 'tar'])
def test_checkpoints_execute_nothing(kind, call, tmp_path):
    target = tmp_path / 'exploded'
    bomb = dict(
        mkdir=Call(os.mkdir, str(target)),
        open=Call(open, str(target), 'w'),
        eval=Call(eval, f'open({str(target)!r}, "w")'),
        getattr=Call(Call(getattr, Path, 'touch'), str(target)),
    ).get(call) or Call(__import__, 'antigravity')
    content = dict(state_dict=dict(a=torch.zeros(1)), meta=bomb)
    path = tmp_path / 'a.pth'
    if kind == 'pickle':
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif kind == 'tar':
        with tarfile.open(path, 'w') as tar:
            for name in ('storages', 'tensors', 'pickle'):
                data = pickle.dumps(content, protocol=2)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == 'zip')
    with pytest.raises(
        CheckpointError, match=r'a\.pth.*(which is not plain data|could run code|holds a)'
    ):
        read_checkpoint(path)
    assert os.listdir(tmp_path) == ['a.pth']


def test_checkpoints_do_not_grow_when_they_are_read(tmp_path):
    path = tmp_path / 'a.pth'

    def refused(message: str) -> None:
        with pytest.raises(CheckpointError, match=rf'a\.pth.*{message}'):
            read_checkpoint(path)

    torch.save(dict(a=torch.zeros(2**20)), tmp_path / 'stored.pth')
    with zipfile.ZipFile(tmp_path / 'stored.pth') as stored:
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as packed:
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
        refused(r"its zip entries are compressed \('stored/data.pkl'\)")
        # one entry that many names point to
        content = bytearray((tmp_path / 'stored.pth').read_bytes())
    start = content.index(b'PK\x01\x02')
    end = content.index(b'PK\x05\x06')
    directory = content[start:end]
    count = struct.unpack('<H', content[end + 10 : end + 12])[0]
    if b'PK\x06\x06' not in directory:
        last = struct.pack('<HHII', 9 * count, 9 * count, 9 * len(directory), start)
        path.write_bytes(content[:start] + directory * 9 + content[end : end + 8] + last + bytes(2))
        refused(r'its zip entries claim 37,\d{3},\d{3} bytes, with')
    for zipped in (True, False):
        save = functools.partial(torch.save, f=path, _use_new_zipfile_serialization=zipped)
        save(dict(a=torch.zeros(1), b=Call(bytearray, 2**40)))
        refused('holds an object of bytearray')
        save(dict(state_dict=dict(a=torch.zeros(1).expand(2**20, 2**20))))
        refused(r"its tensor 'a' of shape \(1048576, 1048576\) claims 4,398,046,511,104 bytes, with")
        save(dict(a=[Call(torch.Tensor, 2**20, 2)]))
        refused(r"its tensor 'a' of shape \(1048576, 2\) claims 8,388,608 bytes, with")
        save({(1, 2): torch.zeros(1), 3: torch.zeros(1)})
        with pytest.raises(CheckpointError, match=r'holds no state dict \(its keys: tuple, int\)'):
            state_dict_of(read_checkpoint(path))


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('kind', ['text', 'lists', 'keys', 'itself', 'afterwards'])
def test_pickles_do_not_grow_when_they_are_read(kind, zipped, tmp_path):
    import _codecs

    held = [1.0]
    if kind == 'text':
        for _ in range(28):
            held = Call(_codecs.encode, held if isinstance(held, Call) else 'a' * 16, 'hex')
    elif kind == 'lists':
        for _ in range(28):
            held = [held, held]
        held = Call(torch.Tensor, held)
    elif kind == 'keys':
        held = ('a',)
        for _ in range(40):
            held = (held, held)
        held = [held]  # to hash it takes as long
    elif kind == 'itself':
        held.append(held)
    path = tmp_path / 'a.pth'
    content = dict(a=torch.zeros(1), b=held)
    if kind == 'afterwards':
        # a list, in a tuple; then the list again, and a 1 into it
        path.write_bytes(b'\x80\x02]q\x01\x85q\x02h\x01K\x01a.')
    else:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = dict(
        itself='puts something into what is part', afterwards='puts something into what is part'
    )
    with pytest.raises(
        CheckpointError,
        match=rf'a\.pth.*({message.get(kind, "items and bytes would become of its first")})',
    ):
        read_checkpoint(path)


def test_bytes_that_are_not_there_are_not_allocated(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(b'\x80\x02\x8e' + struct.pack('<Q', 2**62) + b'a')
    with pytest.raises(CheckpointError, match=r'a\.pth.*truncated or damaged'):
        read_checkpoint(path)


@pytest.mark.parametrize('zipped', [True, False])
def test_checkpoints_that_share_are_read(zipped, tmp_path):
    """What a training run keeps: shared tensors, numbers of NumPy, histories, metadata."""
    from mmengine.logging import HistoryBuffer

    model = torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 1) for _ in range(40)))
    model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 8, 1, 1)).sum().backward()
    optimizer.step()
    history = HistoryBuffer()
    for i in range(1000):
        history.update(i)
    classes = ('road', 'car')
    content = dict(
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        shared=[history._log_history.tolist()] * 2,
        meta=dict(classes=classes, dataset_meta=dict(classes=classes), seed=2**31, text='a' * 10**5),
        message_hub=dict(log_scalars=dict(loss=history), resumed=dict.fromkeys('ab', True)),
        numbers=np.arange(1000.0),
        best=np.float64(3),
    )
    path = tmp_path / 'a.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path)
    assert all(torch.equal(v, content['state_dict'][k]) for k, v in found['state_dict'].items())
    assert found['meta'] == content['meta']
    assert found['message_hub']['log_scalars']['loss'].mean() == history.mean()
    assert np.array_equal(found['numbers'], content['numbers'])


def test_safetensors_do_not_grow_when_they_are_read(tmp_path):
    path = tmp_path / 'a.safetensors'
    for length in (2**62, 2**31, 2**20):
        path.write_bytes(struct.pack('<Q', length) + b'{}')
        with pytest.raises(CheckpointError, match=r'a\.safetensors.*truncated or damaged safetensors'):
            read_checkpoint(path)
    for entry in (
        dict(dtype='F32', shape=[2**40, 2**40], data_offsets=[0, 4]),
        dict(dtype='F32', shape=[2**40], data_offsets=[0, 2**42]),
        dict(dtype='F32', shape=[1], data_offsets=[4, 0]),
        dict(dtype='OBJECT', shape=[1], data_offsets=[0, 4]),
    ):
        head = json.dumps(dict(a=entry)).encode()
        path.write_bytes(struct.pack('<Q', len(head)) + head + bytes(4))
        with pytest.raises(CheckpointError, match=r'a\.safetensors.*truncated or damaged safetensors'):
            read_checkpoint(path)


@pytest.mark.parametrize(
    'state',
    [
        {'base_layer.0.weight': [1], 'level2.root.bn.weight': [1], 'fc.weight': [], 'fc.bias': []},
        {'base.base_layer.0.weight': [1], 'fc.0.weight': [], 'fc.0.bias': []},
        {'seg.weight': [], 'seg.bias': [], 'base.8.0.weight': [1], 'base.x.0.weight': [1]},
        {'layer0.0.weight': [1], 'layer8.0.weight': [1], 'fc.weight': [2], 'fc.bias': []},
    ],
)
def test_weights_of_other_shapes_are_none_of_a_network(state):
    state = {name: torch.zeros(shape) for name, shape in state.items()}
    if 'base.x.0.weight' in state:
        with pytest.raises(
            CheckpointError, match=r"here.pth: .* has layers base.\[8, 'x'\] that no DRN has"
        ):
            convert_released(state, 'here.pth')
    else:
        converted = convert_released(state, 'here.pth')
        assert all(torch.is_tensor(value) for value in converted.state_dict.values())
