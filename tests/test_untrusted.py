"""Files from elsewhere execute nothing, and are refused before they exhaust memory."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdla.utils.image_files import (
    MAX_PIXELS,
    ImageFileError,
    check_image_file,
    image_size,
    open_image,
)

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
    check_image_file(path)
    assert image_size(path) == (40, 60)
    content = path.read_bytes()
    path.write_bytes(content + b'what a camera appends')
    check_image_file(path)
    for length in (len(content) // 3, len(content) * 2 // 3, len(content) - 40):
        path.write_bytes(content[:length])
        with pytest.raises(ImageFileError, match=f'a.{suffix}: truncated or damaged {KINDS[suffix]}'):
            check_image_file(path)


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


def test_images_are_refused_by_the_size_in_their_header(tmp_path, monkeypatch):
    path = png_header(tmp_path / 'a.png', 30_000, 20_000)
    message = (
        rf'a.png: 20000x30000 are 600,000,000 pixels, more than the {MAX_PIXELS:,} up to which images '
        'are read; if it can be trusted, set MMDLA_MAX_PIXELS to a larger number'
    )
    for read in (check_image_file, image_size):
        with pytest.raises(ImageFileError, match=message):
            read(path)
    # beyond Pillow's own limit, which stays as it is
    limit = Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv('MMDLA_MAX_PIXELS', '600000000')
    assert image_size(path) == (20_000, 30_000)
    assert limit == Image.MAX_IMAGE_PIXELS
    monkeypatch.setenv('MMDLA_MAX_PIXELS', '2399')
    with pytest.raises(ImageFileError, match='40x60 are 2,400 pixels, more than the 2,399'):
        check_image_file(picture(tmp_path / 'b.jpg'))
    for wrong in ('many', '-1', '0', '1e9', '9' * 5000):
        monkeypatch.setenv('MMDLA_MAX_PIXELS', wrong)
        with pytest.raises(ValueError, match=f"MMDLA_MAX_PIXELS='{wrong}' must be a number of pixels"):
            image_size(path)


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
