"""BoundaryMetric and the tools around it: files of every kind, several processes, wrong input."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from conftest import shared
from scipy.io import savemat

pytest.importorskip('mmseg')
from mmengine.registry import METRICS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdla.evaluation.boundary import BoundaryMetric
from mmdla.evaluation.boundary_scores import BoundaryScores, count_boundaries
from mmdla.utils.boundaries import read_boundary_map, write_boundary_map

EVAL = 'analysis_tools/eval_boundaries.py'


def write_mat(path, *maps) -> None:
    """As BSDS500's files are built."""
    cells = np.empty((1, len(maps)), object)
    for k, drawn in enumerate(maps):
        cells[0, k] = dict(
            Segmentation=np.ones(drawn.shape, np.uint16), Boundaries=drawn.astype(np.uint8)
        )
    savemat(path, dict(groundTruth=cells))


def scene(seed: int, size=(40, 50)) -> tuple[np.ndarray, np.ndarray]:
    """A map and two annotations."""
    rng = np.random.default_rng(seed)
    annotations = np.zeros((2, *size), bool)
    for k, drawn in enumerate(annotations):
        canvas = np.zeros(size, np.uint8)
        cv2.line(canvas, (3 + k, 4), tuple(map(int, rng.integers(20, 39, 2))), 1)
        drawn |= canvas > 0
    probability = cv2.GaussianBlur(annotations[0].astype(np.float32), (0, 0), 1.5) * 2
    return np.clip(probability + 0.2 * rng.random(size), 0, 1), annotations


@pytest.fixture
def files(tmp_path):
    """Maps and annotations of three images, of every kind of file."""
    maps, truths = tmp_path / 'maps', tmp_path / 'truths'
    maps.mkdir(), truths.mkdir()
    for k, name in enumerate('abc'):
        probability, annotations = scene(k)
        if name == 'a':
            np.save(maps / 'a.npy', probability.astype(np.float32))
            write_mat(truths / 'a.mat', *annotations)
        elif name == 'b':
            write_boundary_map(maps / 'b.png', probability)
            (truths / 'b').mkdir()
            for number, drawn in enumerate(annotations):
                cv2.imwrite(str(truths / f'b/{number}.png'), drawn.astype(np.uint8))
        else:
            cv2.imwrite(str(maps / 'c.png'), np.rint(probability * 255).astype(np.uint8))
            cv2.imwrite(str(truths / 'c.png'), annotations[0].astype(np.uint8) * 255)
    return maps, truths


def samples(files) -> list[dict]:
    """What mmseg hands to a metric."""
    maps, truths = files
    found = []
    for map_path, truth in (('a.npy', 'a.mat'), ('b.png', 'b'), ('c.png', 'c.png')):
        p = torch.from_numpy(read_boundary_map(maps / map_path))
        sample = SegDataSample(
            metainfo=dict(img_path=f'{map_path[0]}.jpg', seg_map_path=str(truths / truth))
        )
        sample.seg_logits = PixelData(data=p[None])
        found.append(sample.to_dict())
    return found


def expected(files, **settings) -> dict[str, float]:
    counts = {}
    for k, name in enumerate('abc'):
        _, annotations = scene(k)
        (path,) = files[0].glob(f'{name}.*')
        truth = annotations[:1] if name == 'c' else annotations
        counts[name] = count_boundaries(read_boundary_map(path), truth, **settings)
    return BoundaryScores.of(counts).summary()


@pytest.mark.parametrize('settings', [{}, dict(thresholds=5, max_dist=0.02, thin=False, nms=True)])
def test_metric(files, settings):
    init_default_scope('mmseg')
    metric = METRICS.build(dict(type='BoundaryMetric', **settings))
    for sample in samples(files):
        metric.process({}, [sample])
    found = metric.evaluate(3)
    wanted = expected(files, **settings)
    assert 0.1 < wanted['ODS'] < 1
    for name in ('ODS', 'OIS', 'AP', 'R50', 'threshold', 'recall', 'precision'):
        assert found[f'boundary/{name}'] == pytest.approx(wanted[name])
    assert len(found) == 7


def test_metric_in_processes_and_again(files):
    metric = BoundaryMetric(thresholds=7, jobs=2)
    for _ in range(2):
        metric.process({}, samples(files))
        found = metric.evaluate(3)
        assert found['boundary/ODS'] == pytest.approx(expected(files, thresholds=7)['ODS'])
    # what fails in a process is reported, and the metric can go on
    broken = samples(files)
    broken[1]['seg_map_path'] = str(files[1] / 'c.png')
    broken[1]['seg_logits']['data'] = torch.zeros(1, 7, 8)
    metric.process({}, broken)
    with pytest.raises(ValueError, match=r'b\.jpg.*\(7, 8\).*\(40, 50\)'):
        metric.evaluate(3)
    metric.process({}, samples(files))
    assert metric.evaluate(3) == found


def test_what_fails_in_a_process_fails_soon(files):
    metric = BoundaryMetric(thresholds=2, jobs=1)
    broken = {**samples(files)[0], 'seg_map_path': 'nowhere.mat'}
    with pytest.raises(FileNotFoundError, match='nowhere'):
        metric.process({}, [broken] * 100)


def test_a_network_that_diverged_is_no_detector(files):
    broken = samples(files)[1]
    broken['seg_logits']['data'][0, 3, 4] = float('nan')
    with pytest.raises(ValueError, match=r'b\.jpg.*from nan|b\.jpg.*nan'):
        BoundaryMetric().process({}, [broken])


def test_two_classes_are_softmaxed(files):
    one, two = BoundaryMetric(thresholds=5), BoundaryMetric(thresholds=5)
    for sample in samples(files):
        one.process({}, [sample])
        p = sample['seg_logits']['data'][0]
        logits = torch.stack([(1 - p).log(), p.log()]) + 3
        two.process({}, [{**sample, 'seg_logits': dict(data=logits)}])
    assert one.evaluate(3)['boundary/ODS'] == pytest.approx(two.evaluate(3)['boundary/ODS'], abs=1e-6)


@pytest.mark.parametrize(
    'change', [dict(thresholds=0), dict(max_dist=1.5), dict(jobs=-1), dict(jobs=True)], ids=str
)
def test_metric_refuses_arguments(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        BoundaryMetric(**change)


def test_metric_refuses_samples(files):
    metric = BoundaryMetric()
    (sample, *_) = samples(files)
    without = {k: v for k, v in sample.items() if k != 'seg_map_path'}
    with pytest.raises(ValueError, match='seg_map_path'):
        metric.process({}, [without])
    with pytest.raises(ValueError, match=r'shape \(3, 4, 5\)'):
        metric.process({}, [{**sample, 'seg_logits': dict(data=torch.zeros(3, 4, 5))}])
    with pytest.raises(ValueError, match='lacks seg_logits'):
        metric.process({}, [{**without, 'seg_map_path': 'a.mat', 'seg_logits': None}])
    with pytest.raises(FileNotFoundError, match='nowhere'):
        metric.process({}, [{**sample, 'seg_map_path': 'nowhere.mat'}])


# -- eval_boundaries.py ---------------------------------------------------------------------------


@pytest.mark.parametrize('jobs', [1, 2])
def test_tool(files, tmp_path, run_tool, jobs):
    out = tmp_path / 'out'
    arguments = (*files, '--out', out, '--jobs', jobs, '--thresholds', 19)
    status, text = run_tool(EVAL, *arguments, '--reference', 'Human=0.7,0.9')
    assert status == 0
    wanted = expected(files, thresholds=19)
    assert f'ODS {wanted["ODS"]:.4f}' in text
    assert 'not the same' in text
    content = json.loads((out / 'scores.json').read_text())
    assert content['summary'] == pytest.approx(wanted)
    assert list(content['images']) == ['a', 'b', 'c']
    assert np.loadtxt(out / 'eval_bdry_thr.txt').shape == (19, 4)
    assert np.loadtxt(out / 'eval_bdry_img.txt').shape == (3, 5)
    assert np.loadtxt(out / 'eval_bdry.txt')[3] == pytest.approx(wanted['ODS'], rel=1e-4)
    assert cv2.imread(str(out / 'precision_recall.png')).min() < 100
    # a second time: nothing is overwritten; another's scores can be drawn beside
    status, text = run_tool(EVAL, *arguments)
    assert status != 0
    assert 'holds something already' in text
    other = tmp_path / 'other'
    status, text = run_tool(
        EVAL,
        *files,
        '--out',
        other,
        '--jobs',
        1,
        '--nms',
        '--reference',
        f'first={out / "scores.json"}',
    )
    assert status == 0
    assert 'ODS' in text


def spoil(case: str, maps, truths) -> None:
    if case == 'missing prediction':
        (maps / 'b.png').unlink()
    elif case == 'missing annotation':
        (truths / 'c.png').unlink()
    elif case == 'wrong size':
        write_boundary_map(maps / 'b.png', np.zeros((50, 40)))
    elif case == 'values':
        np.save(maps / 'a.npy', np.full((40, 50), 1.5, np.float32))
    elif case == 'nan':
        np.save(maps / 'a.npy', np.full((40, 50), np.nan, np.float32))
    elif case == 'colour':
        cv2.imwrite(str(maps / 'c.png'), np.zeros((40, 50, 3), np.uint8))
    elif case == 'no groundTruth':
        savemat(truths / 'a.mat', dict(segmentation=np.zeros((40, 50))))
    elif case == 'no Boundaries':
        cells = np.empty((1, 1), object)
        cells[0, 0] = dict(Segmentation=np.zeros((40, 50)))
        savemat(truths / 'a.mat', dict(groundTruth=cells))
    elif case == 'no mat':
        (truths / 'a.mat').write_bytes(b'<html>404</html>' * 20)
    elif case == 'cut mat':
        (truths / 'a.mat').write_bytes((truths / 'a.mat').read_bytes()[:300])
    elif case == 'empty mat':
        savemat(truths / 'a.mat', dict(groundTruth=np.empty((1, 0), object)))
    elif case == 'annotators differ':
        cv2.imwrite(str(truths / 'b/1.png'), np.zeros((9, 9), np.uint8))
    elif case == 'no annotator':
        for path in (truths / 'b').iterdir():
            path.unlink()
    elif case == 'twice':
        write_boundary_map(maps / 'a.png', np.zeros((40, 50)))
    elif case == 'folder':
        (maps / 'more').mkdir()
    elif case == 'npz':
        np.savez(maps / 'a.npz', np.zeros((40, 50)))
        (maps / 'a.npz').replace(maps / 'a.npy')
    elif case == 'mat with nan':
        write_mat(truths / 'a.mat', np.zeros((40, 50)))
        cells = np.empty((1, 1), object)
        cells[0, 0] = dict(Boundaries=np.full((40, 50), np.nan))
        savemat(truths / 'a.mat', dict(groundTruth=cells))
    elif case == 'mat of cells':
        cells = np.empty((1, 1), object)
        cells[0, 0] = dict(Boundaries=np.full((40, 50), 'a', object))
        savemat(truths / 'a.mat', dict(groundTruth=cells))
    elif case == 'damaged label':
        data = bytearray((truths / 'c.png').read_bytes())
        data[30:40] = b'0123456789'
        (truths / 'c.png').write_bytes(data)
    elif case == 'no png':
        (maps / 'c.png').write_bytes(b'nothing')


@pytest.mark.parametrize(
    ('case', 'message'),
    [
        ('missing prediction', r'truths.b has no prediction'),
        ('missing annotation', r'c\.png has no annotation'),
        ('wrong size', r'b\.png is of size \(50, 40\).*\(40, 50\)'),
        ('values', r'a\.npy: values must be from 0 to 1; they go from 1\.5'),
        ('nan', r'a\.npy: values must be from 0 to 1'),
        ('colour', r'c\.png: a boundary map must be a PNG of one channel'),
        ('no groundTruth', r'a\.mat: must hold a cell array groundTruth, but holds'),
        ('no Boundaries', r'a\.mat: groundTruth\{1\} has no field Boundaries'),
        ('no mat', r'a\.mat: not readable as a \.mat file'),
        ('cut mat', r'a\.mat: not readable as a \.mat file'),
        ('empty mat', r'a\.mat: groundTruth is empty'),
        ('annotators differ', r'b: its annotations differ in size'),
        ('no annotator', r'b: the folder holds no PNG'),
        ('twice', r'a\.npy and .*a\.png are of one image|a\.png and .*a\.npy are of one image'),
        ('folder', r'more is a folder: maps must lie in'),
        ('npz', r'a\.npy: is an archive of arrays'),
        ('mat with nan', r'a\.mat: groundTruth\{1\}\.Boundaries has NaN'),
        ('mat of cells', r'a\.mat: groundTruth\{1\}\.Boundaries must be an image of numbers'),
        ('damaged label', r'c\.png: truncated or damaged PNG'),
        ('no png', r'c\.png: no PNG; it starts with'),
    ],
)
def test_tool_names_what_is_wrong(files, run_tool, case, message):
    spoil(case, *files)
    status, text = run_tool(EVAL, *files, '--jobs', 1)
    assert status != 0
    assert 'ODS' not in text
    assert 'Traceback' not in text
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(text)


def test_tool_lists_every_problem(files, run_tool):
    for case in ('values', 'wrong size', 'colour'):
        spoil(case, *files)
    _, text = run_tool(EVAL, *files, '--jobs', 1)
    assert '3 problems' in text
    assert 'a.npy' in text and 'b.png' in text and 'c.png' in text  # noqa: PT018


@pytest.mark.parametrize(
    'arguments',
    [
        ('--thresholds', 0),
        ('--max-dist', 1),
        ('--jobs', 0),
        ('--reference', 'A=1.5,0.2'),
        ('--reference', 'nothing'),
        ('--reference', '=0.5,0.5'),
        ('--reference', 'maps=0.5,0.5'),
    ],
)
def test_tool_refuses_arguments(files, run_tool, arguments):
    status, text = run_tool(EVAL, *files, *arguments)
    assert status != 0
    assert arguments[0] in text


# -- the other tools ------------------------------------------------------------------------------


def test_benchmark(files, run_tool):
    tool = 'analysis_tools/benchmark_boundaries.py'
    status, text = run_tool(tool, *files, '--images', 2, '--thresholds', 5, '--jobs', 1)
    assert status == 0
    assert text.count('the same |') == 2
    assert run_tool(tool, *files, '--images', 0)[0] != 0


def test_sobel(tmp_path, run_tool):
    images = tmp_path / 'images'
    images.mkdir()
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = 255
    cv2.imwrite(str(images / 'a.png'), picture)
    tool = 'analysis_tools/sobel_boundaries.py'
    assert run_tool(tool, images, '--out', tmp_path / 'maps')[0] == 0
    found = read_boundary_map(tmp_path / 'maps/a.png')
    assert (found.argmax(1) // 2 == 29 // 2).all() or (found.argmax(1) // 2 == 15).all()
    assert 0.9 < found.max() <= 1
    assert found[:, :20].max() == 0
    assert 'holds something' in run_tool(tool, images, '--out', tmp_path / 'maps')[1]
    (images / 'b.jpg').write_bytes(b'nothing')
    assert 'b.jpg: ' in run_tool(tool, images, '--out', tmp_path / 'more')[1]


def test_real_data_round_trip(tmp_path, run_tool):
    truths = shared('data/BSDS500/groundTruth/val')
    folder = tmp_path / 'truths'
    folder.mkdir()
    for path in sorted(truths.glob('*.mat'))[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    maps = tmp_path / 'maps'
    maps.mkdir()
    from mmdla.utils.boundaries import read_annotations

    for path in folder.iterdir():
        # the share of annotators who marked a pixel, against themselves: a human upper bound
        write_boundary_map(maps / f'{path.stem}.png', read_annotations(path).mean(0))
    status, text = run_tool(EVAL, maps, folder, '--jobs', 1, '--thresholds', 4)
    assert status == 0
    assert float(text.split('ODS ')[1].split()[0]) > 0.7
