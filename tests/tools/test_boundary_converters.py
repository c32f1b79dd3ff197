"""bsds500.py, pascal_boundaries.py and boundary_pairs.py: what they write, and what they refuse."""

from __future__ import annotations

import io
import json
import runpy
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mmseg')
pytest.importorskip('scipy')
from scipy.io import savemat

from mmdla.datasets import BoundaryPairsDataset, BSDS500Dataset, PASCALBoundariesDataset
from mmdla.io.boundary_files import read_annotations

BSDS = 'dataset_converters/bsds500.py'
PASCAL = 'dataset_converters/pascal_boundaries.py'
PAIRS = 'dataset_converters/boundary_pairs.py'
TOOLS = Path(__file__).resolve().parents[2] / 'tools'
SIZE = (20, 30)


def marks(seed: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *SIZE)) < 0.1


def write_mat(path: Path, marked: np.ndarray) -> None:
    cells = np.empty((1, len(marked)), object)
    for i, one in enumerate(marked):
        cells[0, i] = dict(Boundaries=one.astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, dict(groundTruth=cells))


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((*SIZE, 3), np.uint8))


@pytest.fixture
def folder(tmp_path):
    """What BSR_bsds500.tgz unpacks to, with four images."""
    data = tmp_path / 'BSR/BSDS500/data'
    for seed, (name, split) in enumerate(dict(a='train', b='train', c='val', d='test').items()):
        write_image(data / f'images/{split}/{name}.jpg')
        (data / f'images/{split}/Thumbs.db').touch()
        write_mat(data / f'groundTruth/{split}/{name}.mat', marks(seed, 4 + seed))
    other = tmp_path / 'BSR/bench/data/images/5.jpg'
    write_image(other)
    return tmp_path / 'BSR'


@pytest.fixture
def archive(folder):
    path = folder.parent / 'BSR_bsds500.tgz'
    with tarfile.open(path, 'w:gz') as tar:
        tar.add(folder, 'BSR')
    return path


# -- BSDS500 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('png', [False, True])
@pytest.mark.parametrize('source', ['folder', 'archive'])
def test_bsds_is_converted(source, png, request, run_tool, tmp_path):
    root = tmp_path / 'out/BSDS500'
    status, text = run_tool(BSDS, request.getfixturevalue(source), root, *['--png'] * png)
    assert status == 0, text
    assert 'train: 2 images (all: 200), 9 annotations' in text
    assert f'Ready: {root}' in text
    files = [p for p in root.rglob('*') if p.is_file()]
    assert len(files) == 4 + (4 + 5 + 6 + 7 if png else 4)
    seed = 0
    for split in ('train', 'val', 'test'):
        dataset = BSDS500Dataset(str(root), split, pipeline=[])
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            assert cv2.imread(info['img_path']).shape[:2] == SIZE
            assert np.array_equal(read_annotations(info['seg_map_path']), marks(seed, 4 + seed))
            seed += 1
    assert [p.name for p in root.parent.iterdir()] == ['BSDS500']


def test_bsds_overwrites_nothing(folder, run_tool, tmp_path):
    root = tmp_path / 'mine'
    root.mkdir()
    (root / 'thesis.txt').write_text('precious')
    status, text = run_tool(BSDS, folder, root)
    assert status != 0
    assert f'bsds500: {root} exists already: move it away' in text
    assert [p.name for p in root.iterdir()] == ['thesis.txt']


def test_bsds_names_what_is_wrong(folder, run_tool, tmp_path):
    root = tmp_path / 'out'
    data = folder / 'BSDS500/data'

    def refused(message: str, source=folder) -> None:
        status, text = run_tool(BSDS, source, root)
        assert status != 0
        assert message in text
        assert not root.exists()
        assert not list(tmp_path.glob('out*'))

    refused('nowhere', tmp_path / 'nowhere')
    refused('has no images/SPLIT/*.jpg', folder / 'bench')
    (tmp_path / 'text.tgz').write_text('<html>not found</html>')
    refused('bsds500: ', tmp_path / 'text.tgz')
    write_image(folder / 'again/images/train/a.jpg')
    refused('has images/train/a.jpg twice')
    (folder / 'again/images/train/a.jpg').unlink()
    write_mat(data / 'groundTruth/train/a.mat', np.ones((2, 9, 9), bool))
    refused('groundTruth/train/a.mat is of size (9, 9), its image of size (20, 30)')
    (data / 'groundTruth/train/a.mat').write_bytes(b'no' * 100)
    refused('a.mat: SciPy cannot read it as a .mat file')
    (data / 'groundTruth/train/a.mat').unlink()
    refused('1 of images are not in groundTruth; the first: train/a')


@pytest.mark.parametrize('prefix', ['/', '../', 'BSR/../../'])
def test_bsds_archives_stay_inside(prefix, folder, run_tool, tmp_path):
    """Members get names of the tool's own, whatever folder theirs lead to."""
    path = tmp_path / 'odd.tgz'
    data = folder / 'BSDS500/data'
    with tarfile.open(path, 'w:gz') as tar:
        for file in data.rglob('[a-d].*'):
            member = tar.gettarinfo(file)
            member.name = f'{prefix}{file.relative_to(data).as_posix()}'
            tar.addfile(member, io.BytesIO(file.read_bytes()))
    before = set(tmp_path.rglob('*'))
    status, text = run_tool(BSDS, path, tmp_path / 'out')
    assert status == 0, text
    new = set(tmp_path.rglob('*')) - before
    assert len([p for p in new if p.is_file()]) == 8
    assert all(p.is_relative_to(tmp_path / 'out') for p in new)


def test_bsds_archives_of_links_and_cut_ones_are_refused(archive, run_tool, tmp_path):
    path = tmp_path / 'links.tgz'
    with tarfile.open(path, 'w:gz') as tar:
        member = tarfile.TarInfo('images/train/a.jpg')
        member.type, member.linkname = tarfile.SYMTYPE, '/etc/passwd'
        tar.addfile(member)
    for source, message in (
        (path, "has 'images/train/a.jpg', which is no file"),
        (archive, 'cannot read'),
    ):
        content = source.read_bytes()
        source.write_bytes(content if source == path else content[: len(content) // 2])
        status, text = run_tool(BSDS, source, tmp_path / 'out')
        assert status != 0
        assert f'bsds500: {source}' in text
        assert message in text
        assert not (tmp_path / 'out').exists()


# -- PASCAL Boundaries ------------------------------------------------------------------------------


def test_pascal_from_a_folder(run_tool, tmp_path):
    source = tmp_path / 'annotations'
    source.mkdir()
    for name in 'abc':
        write_image(tmp_path / f'images/{name}.jpg')
    write_mat(source / 'a.mat', marks(0, 2))
    cv2.imwrite(str(source / 'b.png'), marks(1)[0].astype(np.uint8) * 5)
    (source / 'c').mkdir()
    for i, one in enumerate(marks(2, 3)):
        cv2.imwrite(str(source / f'c/{i}.png'), one.astype(np.uint8))
    (tmp_path / 'train.txt').write_text('a\nb\n')
    (tmp_path / 'val.txt').write_text('c\n')
    root = tmp_path / 'out'
    lists = ['--split', 'train', tmp_path / 'train.txt', '--split', 'val', tmp_path / 'val.txt']
    status, text = run_tool(PASCAL, source, tmp_path / 'images', root, *lists)
    assert status == 0, text
    assert 'train: 2 images, val: 1 images' in text
    dataset = PASCALBoundariesDataset(str(root), 'trainval', pipeline=[])
    for i, count in enumerate((2, 1, 3)):
        info = dataset.get_data_info(i)
        assert np.array_equal(read_annotations(info['seg_map_path']), marks(i, count))
        assert cv2.imread(info['img_path']).shape[:2] == SIZE

    def refused(message: str, *args) -> None:
        status, text = run_tool(PASCAL, *args)
        assert status != 0
        assert message in text
        assert not list(tmp_path.glob('other*'))

    args = (source, tmp_path / 'images', tmp_path / 'other')
    refused('exists already', *args[:2], root, *lists)
    refused('say what is in which split', *args)
    refused(
        '--split all must be one of train, val, test', *args, '--split', 'all', tmp_path / 'val.txt'
    )
    write_image(tmp_path / 'images/d.jpg')
    for text, message in (
        ('', 'names no image'),
        ('a\na', "has the name 'a' twice"),
        ('../a', 'must be a name without folder and suffix'),
        ('d', 'has no d.mat, d.png or folder d'),
    ):
        (tmp_path / 'list.txt').write_text(text)
        refused(message, *args, '--split', 'train', tmp_path / 'list.txt')
    (tmp_path / 'images/a.jpg').unlink()
    refused('a.jpg is missing', *args, *lists)
    write_mat(source / 'b.mat', np.ones((1, 9, 9), bool))
    (tmp_path / 'list.txt').write_text('b')
    refused('is of size (9, 9)', *args, '--split', 'val', tmp_path / 'list.txt')


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, from those of 0 on."""
    flat = np.concatenate([[0], mask.T.ravel(), [1 - mask.T.ravel()[-1]]])
    changes = np.flatnonzero(np.diff(flat.astype(int)))
    return np.diff(np.concatenate([[0], changes])).tolist()


def test_pascal_from_pascal_in_detail(run_tool, tmp_path):
    phases = dict(zip(('2008_000002', '2008_000003', '2009_000001'), ('train', 'train', 'val')))
    data = dict(
        images=[
            dict(image_id=i, file_name=f'{name}.jpg', phase=phase, height=SIZE[0], width=SIZE[1])
            for i, (name, phase) in enumerate(phases.items())
        ],
        annos_boundary=[
            dict(image_id=i, boundary_mask=dict(size=SIZE, counts=runs_of(marks(i)[0])))
            for i in range(3)
        ],
    )
    data['images'].append(dict(image_id=9, file_name='2010_000001.jpg', phase='test'))  # no annotation
    source = tmp_path / 'detail.json'
    source.write_text(json.dumps(data))
    for name in phases:
        write_image(tmp_path / f'images/{name}.jpg')
    root = tmp_path / 'out'
    status, text = run_tool(PASCAL, source, tmp_path / 'images', root)
    assert status == 0, text
    dataset = PASCALBoundariesDataset(str(root), 'trainval', pipeline=[])
    for i, name in enumerate(phases):
        info = dataset.get_data_info(i)
        assert Path(info['img_path']).stem == name
        assert np.array_equal(read_annotations(info['seg_map_path']), marks(i))

    def refused(message: str, *args) -> None:
        status, text = run_tool(PASCAL, source, tmp_path / 'images', tmp_path / 'other', *args)
        assert status != 0
        assert message in text

    refused('--split is for a folder', '--split', 'train', 'x')
    data['annos_boundary'][0]['boundary_mask']['counts'] = [3, 4]
    source.write_text(json.dumps(data))
    refused('boundary_mask of 2008_000002 is not run-length code: runs of 7 pixels in all, for 20x30')
    source.write_text(json.dumps(dict(images=[])))
    refused("lacks 'annos_boundary'")
    source.write_text('no')
    refused('pascal_boundaries: ')


def test_run_length_text():
    tool = runpy.run_path(str(TOOLS / PASCAL))
    # 6, 1, 40 (two characters), then 1 + 2, and 40 - 3, by hand from the format's description
    assert tool['_runs']('61X12M') == [6, 1, 40, 3, 37]
    assert tool['_runs'](b'61X12M') == [6, 1, 40, 3, 37]
    for wrong in ('6 ', '6X'):
        with pytest.raises(ValueError, match=r'none of the code|cut off'):
            tool['_runs'](wrong)
    coco = pytest.importorskip('pycocotools.mask')
    rng = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.2, 1.0):
        mask = rng.random((300, 200)) < share
        code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert np.array_equal(tool['decode_rle'](code['counts'].decode(), code['size']), mask)


# -- lists of pairs ---------------------------------------------------------------------------------


def write_marks(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), marks(seed)[0].astype(np.uint8) * 255)


@pytest.fixture
def multicue(tmp_path):
    """Multicue with ten scenes, three annotators of boundaries and two of edges."""
    root = tmp_path / 'multicue'
    for seed in range(10):
        write_image(root / f'images/scene_{seed}.png')
        for kind, annotators in (('boundaries', 3), ('edges', 2)):
            for k in range(1, annotators + 1):
                path = root / f'ground-truth/images/{kind}/scene_{seed}.{k}.png'
                write_marks(path, 10 * seed + k)
    return root


def test_multicue_is_divided_three_times(multicue, run_tool, tmp_path):
    root = tmp_path / 'out'
    status, text = run_tool(PAIRS, multicue, root, '--layout', 'multicue')
    assert status == 0, text
    assert 'boundary: 10 images, 3 times divided into 8 and 2' in text
    assert len(list((root / 'images').iterdir())) == 10
    splits = []
    for k in (1, 2, 3):
        names: dict[str, list[str]] = {}
        for task, annotators in (('boundary', 3), ('edge', 2)):
            for split, count in (('train', 8), ('test', 2)):
                dataset = BoundaryPairsDataset(
                    str(root), f'{split}_pair_{task}_set_{k}.lst', pipeline=[]
                )
                assert len(dataset) == count
                infos = [dataset.get_data_info(i) for i in range(count)]
                stems = [Path(info['img_path']).stem for info in infos]
                assert names.setdefault(split, stems) == stems, 'the same for both tasks'
                seed = int(stems[0][-1])
                wanted = np.concatenate([marks(10 * seed + i) for i in range(1, annotators + 1)])
                assert np.array_equal(read_annotations(infos[0]['seg_map_path']), wanted)
        assert sorted(names['train'] + names['test']) == [f'scene_{i}' for i in range(10)]
        splits.append(tuple(names['test']))
    assert len(set(splits)) == 3
    assert run_tool(PAIRS, multicue, tmp_path / 'again', '--layout', 'multicue')[0] == 0
    assert run_tool(PAIRS, multicue, tmp_path / 'other', '--layout', 'multicue', '--seed', 1)[0] == 0
    for path in root.glob('*.lst'):
        assert (tmp_path / 'again' / path.name).read_text() == path.read_text()
    name = 'test_pair_edge_set_1.lst'
    assert (tmp_path / 'other' / name).read_text() != (root / name).read_text()


def test_biped_and_files_as_they_are_told(run_tool, tmp_path):
    source = tmp_path / 'BIPED'
    for seed, (part, name) in enumerate(
        (('train/rgbr/real', 'RGB_1'), ('train/rgbr/real', 'RGB_11'), ('test/rgbr', 'RGB_1'))
    ):
        write_image(source / f'edges/imgs/{part}/{name}.jpg')
        write_marks(source / f'edges/edge_maps/{part}/{name}.png', seed)
    told = [
        '--pairs',
        'train',
        'imgs/train/rgbr/real/{name}.jpg',
        'edge_maps/train/rgbr/real/{name}.png',
    ]
    told += ['--pairs', 'test', 'test/rgbr/{name}.jpg', 'test/rgbr/{name}.png']
    for root, args in (('out', ['--layout', 'biped']), ('told', told)):
        status, text = run_tool(PAIRS, source, tmp_path / root, *args)
        assert status == 0, text
        assert 'train: 2 images' in text
        seeds = dict(train=[0, 1], test=[2])
        for split, wanted in seeds.items():
            dataset = BoundaryPairsDataset(str(tmp_path / root), f'{split}_pair.lst', pipeline=[])
            assert len(dataset) == len(wanted)
            for i, seed in enumerate(wanted):
                info = dataset.get_data_info(i)
                assert np.array_equal(read_annotations(info['seg_map_path']), marks(seed))
                assert cv2.imread(info['img_path']).shape[:2] == SIZE


def test_pairs_that_cannot_be(multicue, run_tool, tmp_path):
    root = tmp_path / 'out'

    def refused(message: str, *args) -> None:
        status, text = run_tool(PAIRS, multicue, root, *args)
        assert status != 0
        assert message in text
        assert not list(tmp_path.glob('out*'))

    layout = ('--layout', 'multicue')
    refused('one of --layout and --pairs must say')
    refused('has no image imgs/train/rgbr/real/{name}.*: is it the right folder?', '--layout', 'biped')
    refused("'img/*.png' must have {name} once", '--pairs', 'train', 'img/*.png', 'gt/{name}.png')
    refused('--train-share 1.0 must be between', *layout, '--train-share', 1)
    refused('--random-splits -1 must be', *layout, '--random-splits', -1)
    refused("'../a' must be a word", '--pairs', '../a', '{name}.png', '{name}.png')
    write_image(multicue / 'more/images/scene_1.png')
    refused('are of one name: let the pattern begin above', *layout)
    (multicue / 'more/images/scene_1.png').rename(multicue / 'images/my scene.png')
    refused('my scene.png: names must have no space', *layout)
    (multicue / 'images/my scene.png').rename(multicue / 'images/scene_x.png')
    refused('scene_x.png has no annotation ground-truth/images/boundaries/{name}.*.png', *layout)
    (multicue / 'images/scene_x.png').unlink()
    cv2.imwrite(str(multicue / 'images/scene_3.png'), np.zeros((9, 9, 3), np.uint8))
    refused('scene_3.1.png is of size (20, 30), its image', *layout)
    root.mkdir()
    (root / 'thesis.txt').write_text('precious')
    status, text = run_tool(PAIRS, multicue, root, *layout)
    assert status != 0
    assert 'exists already' in text
    assert [p.name for p in root.iterdir()] == ['thesis.txt']


def test_the_layouts_are_in_the_help(run_tool):
    status, text = run_tool(PAIRS, '--help')
    assert status == 0
    assert 'multicue: edge: images/{name}.* and ground-truth/images/edges/{name}.*.png, divided' in text
