"""BoundaryMetric and the tools around it: files of every kind, several processes, wrong input."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from conftest import load_tool, shared
from scipy.io import savemat

pytest.importorskip('mmseg')
from mmengine.registry import METRICS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmdla.evaluation.boundary.metric import BoundaryMetric
from mmdla.evaluation.boundary.nms import crispness
from mmdla.evaluation.boundary.scores import (
    PRESETS,
    BoundaryScores,
    best_maps,
    count_boundaries,
    count_image,
    map_hints,
)
from mmdla.evaluation.boundary.solvers import solver_name
from mmdla.io.boundary_files import (
    BoundaryFileError,
    average_boundary_maps,
    pair_boundary_files,
    read_annotations,
    read_boundary_map,
    write_boundary_map,
)

EVAL = 'boundaries/eval_boundaries.py'


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


@pytest.mark.parametrize('num_workers', [0, 1])
def test_metric_of_crispness(files, num_workers):
    """The maps as predicted count, whatever is suppressed before the matching."""
    metric = BoundaryMetric(thresholds=3, nms=True, num_workers=num_workers, crispness=True)
    given = samples(files)
    maps = [read_boundary_map(next(files[0].glob(f'{name}.*'))) for name in 'abc']
    metric.process({}, given)
    found = metric.evaluate(3)['boundary/AC']
    assert found == pytest.approx(np.mean([crispness(p) for p in maps]))
    # a map without any boundary has no crispness
    given[1]['seg_logits']['data'] = torch.zeros(1, 40, 50)
    metric.process({}, given)
    found = metric.evaluate(3)['boundary/AC']
    assert found == pytest.approx(np.mean([crispness(maps[k]) for k in (0, 2)]))


def test_metric_in_processes_and_again(files):
    metric = BoundaryMetric(thresholds=7, num_workers=2)
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


def test_the_old_name_of_num_workers_still_works():
    with pytest.warns(DeprecationWarning, match='"jobs" is deprecated in'):
        assert BoundaryMetric(jobs=2).num_workers == 2


def test_what_fails_in_a_process_fails_soon(files):
    metric = BoundaryMetric(thresholds=2, num_workers=1)
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
    'change',
    [
        dict(thresholds=0),
        dict(max_dist=1.5),
        dict(num_workers=-1),
        dict(num_workers=True),
        dict(solver='fast'),
    ],
    ids=str,
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


@pytest.mark.parametrize('workers', [0, 2])
def test_tool(files, tmp_path, run_tool, workers):
    out = tmp_path / 'out'
    arguments = (*files, '--out-dir', out, '--num-workers', workers, '--thresholds', 19)
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
        '--out-dir',
        other,
        '--num-workers',
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
    elif case == 'wrong size':
        write_boundary_map(maps / 'b.png', np.zeros((50, 40)))
    elif case == 'values':
        np.save(maps / 'a.npy', np.full((40, 50), 1.5, np.float32))
    elif case == 'nan':
        np.save(maps / 'a.npy', np.full((40, 50), np.nan, np.float32))
    elif case == 'colour':
        image = np.zeros((40, 50, 3), np.uint8)
        image[3, 4] = (0, 0, 255)
        cv2.imwrite(str(maps / 'c.png'), image)
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
    elif case == 'twice':
        write_boundary_map(maps / 'a.png', np.zeros((40, 50)))
    elif case == 'another folder':
        (maps / 'more').mkdir()
        (maps / 'b.png').rename(maps / 'more/b.png')
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
    elif case == 'cut png':
        (maps / 'c.png').write_bytes((maps / 'c.png').read_bytes()[:-200])
    elif case == 'HDF5':
        (truths / 'a.mat').write_bytes(b'MATLAB 7.3 MAT-file'.ljust(124) + b'\0\2IM' + bytes(512))


@pytest.mark.parametrize(
    ('case', 'message'),
    [
        ('missing prediction', r'truths.b has no prediction'),
        ('wrong size', r'b\.png is of size \(50, 40\).*\(40, 50\)'),
        ('values', r'a\.npy: values must be from 0 to 1; they go from 1\.5'),
        ('nan', r'a\.npy: values must be from 0 to 1'),
        ('colour', r'c\.png: must be grey; its 3 channels differ'),
        ('no groundTruth', r'a\.mat: must hold a cell array groundTruth, but holds'),
        ('no Boundaries', r'a\.mat: groundTruth\{1\} has no field Boundaries'),
        ('no mat', r'a\.mat: SciPy cannot read it as a \.mat file: Unknown mat file type'),
        ('cut mat', r'a\.mat: SciPy cannot read it as a \.mat file'),
        ('HDF5', r'a\.mat: SciPy cannot read version 7\.3, which is HDF5; save it with -v7'),
        ('empty mat', r'a\.mat: groundTruth is empty'),
        ('annotators differ', r'b: its annotations differ in size'),
        ('twice', r'a\.npy and .*a\.png are of one image|a\.png and .*a\.npy are of one image'),
        ('another folder', r'b has no prediction .*maps.b\.\*; .*more.b\.png is in another folder'),
        ('npz', r'a\.npy: is an archive of arrays'),
        ('mat with nan', r'a\.mat: groundTruth\{1\}\.Boundaries has NaN'),
        ('mat of cells', r'a\.mat: groundTruth\{1\}\.Boundaries must be an image of numbers'),
        ('damaged label', r'c\.png: Pillow cannot read it as labels: '),
        ('no png', r'c\.png: OpenCV cannot read this file as an image'),
        ('cut png', r'c\.png: OpenCV cannot read this file as an image'),
    ],
)
def test_tool_names_what_is_wrong(files, run_tool, case, message):
    spoil(case, *files)
    status, text = run_tool(EVAL, *files, '--num-workers', 1)
    assert status != 0
    assert 'ODS' not in text
    assert 'Traceback' not in text
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(text)


# -- presets, several folders, crispness ----------------------------------------------------------


def run_scored(run_tool, out, *arguments) -> dict:
    """The scores.json that the tool writes."""
    status, text = run_tool(EVAL, *arguments, '--num-workers', 0, '--thresholds', 9, '--out-dir', out)
    assert status == 0, text
    return json.loads((out / 'scores.json').read_text())


@pytest.mark.parametrize('preset', PRESETS)
def test_presets(files, tmp_path, run_tool, preset):
    found = run_scored(run_tool, tmp_path / 'out', *files, '--preset', preset)
    assert found['summary'] == pytest.approx(expected(files, thresholds=9, **PRESETS[preset]))
    assert found['settings']['preset'] == preset
    assert found['settings']['max_dist'] == (0.011 if preset == 'nyudv2' else 0.0075)


def test_presets_are_those_of_the_papers():
    given = {
        name: [preset['nms'][k] for k in ('radius', 'border', 'multiplier', 'smooth')]
        for name, preset in PRESETS.items()
    }
    assert given == dict(
        bsds=[1, 5, 1.01, 1], nyudv2=[4, 5, 1.01, 0], multicue=[2, 5, 1.01, 0], biped=[1, 5, 1.03, 0]
    )


def test_options_change_a_preset(files, tmp_path, run_tool):
    options = ('--preset', 'bsds', '--nms-radius', 2, '--nms-smooth', 0, '--max-dist', 0.02)
    found = run_scored(run_tool, tmp_path / 'a', *files, *options)
    nms = dict(radius=2, border=5, multiplier=1.01, smooth=0)
    assert found['settings']['nms'] == nms
    assert found['summary'] == pytest.approx(expected(files, thresholds=9, max_dist=0.02, nms=nms))
    found = run_scored(run_tool, tmp_path / 'b', *files, '--preset', 'nyudv2', '--no-nms', '--no-thin')
    assert found['settings']['nms'] is False
    assert found['summary'] == pytest.approx(expected(files, thresholds=9, max_dist=0.011, thin=False))


@pytest.fixture
def other_maps(files, tmp_path):
    """Maps of the same images by another detector, as .mat and .npy."""
    folder = tmp_path / 'others'
    folder.mkdir()
    for k, name in enumerate('abc'):
        values = scene(k)[0][:, ::-1] ** 2 if name == 'b' else np.sqrt(scene(k)[0])
        if name == 'c':
            np.save(folder / 'c.npy', values)
        else:
            savemat(folder / f'{name}.mat', dict(edges=values, size=np.array([[40.0]]), by='someone'))
    return folder


def count_both(files, other_maps) -> list[dict]:
    truths = dict(a='a.mat', b='b', c='c.png')
    return [
        {
            n: count_image(next(maps.glob(f'{n}.*')), files[1] / truths[n], n, dict(thresholds=9))
            for n in 'abc'
        }
        for maps in (files[0], other_maps)
    ]


def test_maps_of_several_folders_are_averaged(files, other_maps, tmp_path, run_tool):
    maps, truths = files
    found = run_scored(run_tool, tmp_path / 'out', maps, other_maps, truths)
    counts = {}
    for k, name in enumerate('abc'):
        both = [read_boundary_map(next(folder.glob(f'{name}.*'))) for folder in (maps, other_maps)]
        annotations = scene(k)[1][:1] if name == 'c' else scene(k)[1]
        counts[name] = count_boundaries((both[0] + both[1]) / 2, annotations, thresholds=9)
    assert found['summary'] == pytest.approx(BoundaryScores.of(counts).summary())
    assert found['settings']['predictions'] == [str(maps), str(other_maps)]


def test_the_best_granularity_of_each_image(files, other_maps, tmp_path, run_tool):
    maps, truths = files
    found = run_scored(
        run_tool, tmp_path / 'out', maps, other_maps, truths, '--combine', 'best', '--crispness'
    )
    counts, chosen = best_maps(count_both(files, other_maps))
    assert set(chosen.values()) == {0, 1}
    assert chosen['b'] == 0, 'the other is the mirror image'
    assert found['summary']['ODS'] == pytest.approx(BoundaryScores.of(counts).summary()['ODS'])
    with open(tmp_path / 'out/images.csv') as file:
        rows = list(csv.DictReader(file))
    assert [row['image'] for row in rows] == ['a', 'b', 'c']
    folders = (maps, other_maps)
    assert [row['folder'] for row in rows] == [str(folders[chosen[name]]) for name in 'abc']
    crisp = [crispness(read_boundary_map(next(folders[chosen[n]].glob(f'{n}.*')))) for n in 'abc']
    np.testing.assert_allclose([float(row['crispness']) for row in rows], crisp)
    assert found['summary']['AC'] == pytest.approx(np.mean(crisp))


def test_best_maps_by_hand():
    # Found, annotated, right, predicted at one threshold: F of 1/2, 2/3 and 1/2, 2/5.
    first = dict(x=np.array([[5, 10, 5, 10]]), y=np.array([[5, 10, 5, 10]]))
    second = dict(y=np.array([[4, 10, 4, 10]]), x=np.array([[5, 10, 5, 5]]))
    counts, chosen = best_maps([first, second])
    assert chosen == dict(x=1, y=0)
    assert counts['x'].tolist() == [[5, 10, 5, 5]]
    assert counts['y'].tolist() == [[5, 10, 5, 10]]
    assert best_maps([first, first])[1] == dict(x=0, y=0)
    with pytest.raises(ValueError, match='same images'):
        best_maps([first, dict(x=first['x'])])


def test_folders_that_do_not_fit_together(files, other_maps, run_tool):
    maps, truths = files
    write_boundary_map(other_maps / 'b.png', np.zeros((20, 30)))
    (other_maps / 'b.mat').unlink()
    status, text = run_tool(EVAL, maps, other_maps, truths, '--num-workers', 0)
    assert status != 0
    assert f'{other_maps / "b.png"} is of size (20, 30)' in text
    with pytest.raises(BoundaryFileError, match='one size'):
        average_boundary_maps([maps / 'b.png', other_maps / 'b.png'])
    (other_maps / 'b.png').unlink()
    status, text = run_tool(EVAL, maps, other_maps, truths, '--num-workers', 0)
    assert status != 0
    assert f'has no prediction {other_maps / "b"}.*' in text


def test_each_folder_is_warned_of(files, tmp_path, run_tool):
    maps, truths = files
    empty = tmp_path / 'empty'
    empty.mkdir()
    for name in 'abc':
        write_boundary_map(empty / f'{name}.png', np.zeros((40, 50)))
    status, text = run_tool(
        EVAL, maps, empty, truths, '--num-workers', 0, '--crispness', '--thresholds', 3
    )
    assert status == 0
    assert f'Warning: {empty}: 3 of 3 maps are 0 everywhere' in text
    assert f'Warning: {maps}' not in text
    # A map without any boundary has no crispness, and without any there is no average.
    status, text = run_tool(EVAL, empty, truths, '--num-workers', 0, '--crispness', '--thresholds', 3)
    assert status == 0
    assert 'AC' not in text


def test_crispness_by_hand():
    ridge = np.zeros((40, 30))
    ridge[:, 14:17] = 0.5, 1, 0.5
    # The middle of three columns stays: half of the values. Over five rows at both ends it fades:
    # 30 rows of 1 and twice 0, 0.2, 0.4, 0.6 and 0.8 are 34 of 40.
    assert crispness(ridge, border=0) == pytest.approx(0.5)
    assert crispness(ridge) == pytest.approx(0.5 * 34 / 40)
    assert np.isnan(crispness(np.zeros((5, 5))))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(a=np.zeros((4, 5)), b=np.zeros((4, 5))), r"must hold one array .* holds \['a', 'b'\]"),
        (dict(text='nothing'), r"must hold one array"),
        (dict(a=np.full((4, 5), 200, np.uint8)), 'from 0 to 1; they go from 200'),
    ],
)  # fmt: skip
def test_mat_predictions_that_are_none(content, message, tmp_path):
    savemat(tmp_path / 'a.mat', content)
    with pytest.raises(BoundaryFileError, match=message):
        read_boundary_map(tmp_path / 'a.mat')


def test_mat_predictions(tmp_path):
    from scipy.sparse import csc_matrix

    values = scene(0)[0].astype(np.float32)
    for name, stored in (('a.mat', values), ('a.MAT', csc_matrix(values.astype(float)))):
        savemat(tmp_path / name, dict(E=stored, note='text'), appendmat=False)
        np.testing.assert_allclose(read_boundary_map(tmp_path / name), values, atol=1e-7)


def test_images_are_counted_in_threads(files):
    tasks = [
        (files[0] / m, files[1] / t, m, dict(thresholds=9))
        for m, t in (('a.npy', 'a.mat'), ('b.png', 'b'))
    ] * 3
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda task: count_image(*task), tasks))
    for task, counts in zip(tasks, found):
        np.testing.assert_array_equal(counts, count_image(*task))


def test_the_tool_imports_no_torch():
    from conftest import ROOT

    tool = str(ROOT / 'tools' / EVAL)
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', tool, '--help'],
        capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'PRED_DIR' in done.stdout
    imported = {line.split('|')[-1].strip() for line in done.stderr.splitlines() if '|' in line}
    assert 'numpy' in imported
    assert not imported & {'torch', 'mmengine', 'mmcv', 'scipy', 'numba', 'matplotlib'}


def test_the_package_is_a_command(capsys, monkeypatch):
    import runpy

    monkeypatch.setattr(sys, 'argv', ['-m', '--help'])
    with pytest.raises(SystemExit, match='0'):
        runpy.run_module('mmdla.evaluation.boundary', run_name='__main__')
    assert 'PRED_DIR' in capsys.readouterr().out


# -- maps that are likely not what was meant ------------------------------------------------------

WRONG_MAPS = {
    '0 and 1 in 8 bits': (lambda p: (p > 0.5).astype(np.uint8), r'largest value of all maps is 0\.0039 .*below the lowest.*255 in 8 bits'),
    '0 and 1 in 16 bits': (lambda p: (p > 0.5).astype(np.uint16), r'largest value .* 65535 in 16'),
    '0 to 255 in 16 bits': (lambda p: np.rint(p * 255).astype(np.uint16), r'largest value .*multiply them by 257'),
    'number of annotators': (lambda p: np.rint(p * 5).astype(np.uint8), r'largest value .*is their scale another'),
    'dark on white': (lambda p: np.rint(255 - p * 255).astype(np.uint8), r'9\d% of the pixels .*inverted'),
    'binary, dark on white': (lambda p: (p <= 0.5).astype(np.uint8) * 255, r'9\d% of the pixels .*inverted'),
    'empty': (lambda p: (p * 0).astype(np.uint8), r'2 of 2 maps are 0 everywhere, without any boundary: a, b'),
}  # fmt: skip


def sharp(seed: int) -> np.ndarray:
    """A map of some scene without noise."""
    return cv2.GaussianBlur(scene(seed)[1][0].astype(np.float32), (0, 0), 1) ** 0.5


@pytest.mark.parametrize('kind', WRONG_MAPS)
def test_likely_mistakes_are_told_once(kind, tmp_path, run_tool, monkeypatch):
    change, hint = WRONG_MAPS[kind]
    maps, truths = tmp_path / 'maps', tmp_path / 'truths'
    maps.mkdir(), truths.mkdir()
    metric, logged = BoundaryMetric(thresholds=99), []
    monkeypatch.setattr(
        'mmdla.evaluation.boundary.metric.print_log', lambda text, *_: logged.append(text)
    )
    for k, name in enumerate('ab'):
        cv2.imwrite(str(maps / f'{name}.png'), change(sharp(k)))
        cv2.imwrite(str(truths / f'{name}.png'), scene(k)[1][0].astype(np.uint8))
        probability = torch.from_numpy(read_boundary_map(maps / f'{name}.png'))
        sample = dict(img_path=name, seg_map_path=str(truths / f'{name}.png'))
        metric.process({}, [sample | dict(seg_logits=dict(data=probability[None]))])
    status, text = run_tool(EVAL, maps, truths, '--num-workers', 1)
    assert status == 0
    assert text.count(f'Warning: {maps}: ') == 1
    metric.evaluate(2)
    assert len(logged) == 2
    assert 'matched by' in logged[0]
    for told in (text, logged[1]):
        with pytest.raises(AssertionError, match=hint):
            raise AssertionError(told)


def test_good_maps_are_not_warned_of(tmp_path, run_tool):
    """One map that is empty, dim or bright by itself says nothing of the scale of all."""
    values = dict(a=(1.0, 0.1), b=(0.003, 0.0), c=(1.0, 0.9))
    assert map_hints(values, 0.01) == []
    assert map_hints(dict(a=(1.0, 0.1), b=(0.0, 0.0)), 0.01)[0].startswith(
        '1 of 2 maps are 0 everywhere'
    )
    maps, truths = tmp_path / 'maps', tmp_path / 'truths'
    maps.mkdir(), truths.mkdir()
    write_boundary_map(maps / 'a.png', sharp(0))
    cv2.imwrite(str(truths / 'a.png'), scene(0)[1][0].astype(np.uint8))
    assert 'Warning' not in run_tool(EVAL, maps, truths, '--num-workers', 1)[1]


# -- files as others write them -------------------------------------------------------------------


@pytest.mark.parametrize('name', ['a.png', 'a.PNG', 'a.tif', 'a.bmp', 'a.JPG', 'a.npy', 'a.TIFF'])
@pytest.mark.parametrize('channels', ['grey', 'three equal', 'with alpha'])
def test_maps_of_every_kind_are_read(name, channels, tmp_path):
    grey = np.zeros((40, 50), np.uint8)
    grey[8:16, :] = 255  # on the blocks of a JPEG
    values = grey if channels == 'grey' or name == 'a.npy' else np.stack([grey] * 3, 2)
    if channels == 'with alpha' and name.lower().endswith(('png', 'tif', 'tiff')):
        values = np.dstack([values, np.full_like(grey, 200)])
    path = tmp_path / name
    if name == 'a.npy':
        np.save(path, values / 255)
    else:
        assert cv2.imwrite(str(path), values)
    np.testing.assert_allclose(read_boundary_map(path), grey / 255, atol=0.02)
    if values.dtype == np.uint8 and path.suffix.lower() in ('.png', '.tif', '.tiff', '.bmp'):
        if values.ndim == 3 and values.shape[2] == 4:
            values = values[..., :3]
        cv2.imwrite(str(path), values // 255)
        assert np.array_equal(read_annotations(path)[0], grey > 0)


def test_sixteen_bits_and_floats_keep_their_values(tmp_path):
    values = np.random.default_rng(0).random((7, 9))
    for name, stored, largest in (('a.png', np.uint16, 65535), ('a.tif', np.float32, 1)):
        cv2.imwrite(str(tmp_path / name), (values * largest).astype(stored))
        assert np.abs(read_boundary_map(tmp_path / name) - values).max() < 1e-4


def mat_cells(kind: str, maps: np.ndarray) -> object:
    """Annotations as MATLAB programs hold them."""
    from scipy.sparse import csc_matrix

    if kind == 'struct array':
        cells = np.zeros((1, len(maps)), [('Boundaries', object), ('Note', object)])
        for k, one in enumerate(maps):
            cells[0, k] = (one.astype(np.uint8), 'text')
        return cells
    cells = np.empty((1, len(maps)), object)
    for k, one in enumerate(maps):
        drawn = csc_matrix(one.astype(float)) if kind == 'sparse' else one.astype(kind)
        cells[0, k] = dict(Segmentation=np.ones(one.shape, np.uint16), Boundaries=drawn, by='é€')
    return cells


@pytest.mark.parametrize('kind', ['uint8', 'float64', 'int16', 'bool', 'sparse', 'struct array'])
@pytest.mark.parametrize('name', ['a.mat', 'a.MAT'])
def test_annotations_of_every_kind_are_read(kind, name, tmp_path):
    annotations = scene(0)[1]
    beside = dict(text='of letters', cell=np.array([['a', 1]], object), number=3.0)
    for compressed in (False, True):
        savemat(
            tmp_path / name, dict(beside, groundTruth=mat_cells(kind, annotations)),
            do_compression=compressed, appendmat=False,
        )  # fmt: skip
        assert np.array_equal(read_annotations(tmp_path / name), annotations)


def test_what_lies_beside_groundtruth_is_not_looked_at(tmp_path):
    """Such as an object, which SciPy does not turn into data."""
    annotations = scene(0)[1]
    write_mat(tmp_path / 'a.mat', *annotations)
    content = (tmp_path / 'a.mat').read_bytes()

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack('<II', kind, len(data)) + data + bytes(-len(data) % 8)

    parts = (
        element(6, struct.pack('<II', 17, 0)),
        element(5, struct.pack('<2i', 1, 1)),
        element(1, b'odd'),
    )
    (tmp_path / 'a.mat').write_bytes(content + element(14, b''.join(parts)))
    assert np.array_equal(read_annotations(tmp_path / 'a.mat'), annotations)


def place(root, *names: str) -> None:
    """Maps or labels of one pixel below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8), 255, np.uint8))


def test_files_in_folders_are_paired_by_their_path(tmp_path):
    maps, truths = tmp_path / 'maps', tmp_path / 'truths'
    place(maps, 'day/1.png', 'night/1.PNG', '2.jpg', 'day/people.png', '.hidden/3.png', '._2.png')
    place(truths, 'day/1.png', 'night/1.png', '2/0.png', '2/1.png', 'day/people/0.png', '.hidden/3.png')
    found = pair_boundary_files(maps, truths)
    assert found == {
        '2': (maps / '2.jpg', truths / '2'),
        'day/1': (maps / 'day/1.png', truths / 'day/1.png'),
        'day/people': (maps / 'day/people.png', truths / 'day/people'),
        'night/1': (maps / 'night/1.PNG', truths / 'night/1.png'),
    }
    # Links to folders are followed, and one to a folder above is not followed for ever.
    (tmp_path / 'links').mkdir()
    (tmp_path / 'links/day').symlink_to(maps / 'day')
    (tmp_path / 'links/night').symlink_to(maps / 'night')
    (tmp_path / 'links/2.jpg').symlink_to(maps / '2.jpg')
    (maps / 'day/round').symlink_to(tmp_path / 'links')
    assert list(pair_boundary_files(tmp_path / 'links', truths)) == list(found)


def test_maps_without_annotation_are_named_and_the_others_scored(files, run_tool, caplog):
    maps, truths = files
    (truths / 'c.png').unlink()
    place(maps, 'more/a.png')
    status, text = run_tool(EVAL, *files, '--num-workers', 1, '--thresholds', 3)
    assert status == 0
    assert '2 images x 3 thresholds' in text
    assert f'2 of 4 boundary maps have no annotation in {truths}' in caplog.text
    assert f'not scored: {maps / "c.png"}, {maps / "more/a.png"}' in caplog.text


def test_tool_lists_every_problem(files, run_tool):
    for case in ('values', 'wrong size', 'colour'):
        spoil(case, *files)
    _, text = run_tool(EVAL, *files, '--num-workers', 1)
    assert '3 problems' in text
    assert 'a.npy' in text and 'b.png' in text and 'c.png' in text  # noqa: PT018


@pytest.mark.parametrize(
    'arguments',
    [
        ('--thresholds', 0),
        ('--max-dist', 1),
        ('--num-workers', -1),
        ('--nms-radius', 0),
        ('--nms-smooth', 2, '--no-nms'),
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
    tool = 'boundaries/benchmark_boundaries.py'
    status, text = run_tool(tool, *files, '--images', 2, '--thresholds', 5, '--num-workers', 1)
    assert status == 0
    assert text.count('the same |') == 2 + (solver_name() == 'numba')
    assert run_tool(tool, *files, '--images', 0)[0] != 0


def test_sobel(tmp_path, run_tool):
    images = tmp_path / 'images'
    images.mkdir()
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = 255
    cv2.imwrite(str(images / 'a.png'), picture)
    tool = 'boundaries/operator_boundaries.py'
    assert run_tool(tool, images, '--out-dir', tmp_path / 'maps')[0] == 0
    found = read_boundary_map(tmp_path / 'maps/a.png')
    assert (found.argmax(1) // 2 == 29 // 2).all() or (found.argmax(1) // 2 == 15).all()
    assert 0.9 < found.max() <= 1
    assert found[:, :20].max() == 0
    assert 'holds something' in run_tool(tool, images, '--out-dir', tmp_path / 'maps')[1]
    (images / 'b.jpg').write_bytes(b'nothing')
    assert 'b.jpg: ' in run_tool(tool, images, '--out-dir', tmp_path / 'more')[1]


def test_canny(tmp_path, run_tool):
    """Binarized at a threshold of the benchmark, a map is OpenCV's result for this threshold."""
    images = tmp_path / 'images'
    images.mkdir()
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (60, 80, 3), np.uint8), (0, 0), 2)
    cv2.imwrite(str(images / 'a.png'), picture)
    tool = 'boundaries/operator_boundaries.py'
    assert run_tool(tool, images, '--operator', 'canny', '--out-dir', tmp_path / 'maps')[0] == 0
    found = read_boundary_map(tmp_path / 'maps/a.png')
    dx, dy = load_tool(tool).gradients(picture, 2.0)
    dx, dy = (np.rint(16000 * d).astype(np.int16) for d in (dx, dy))
    shares = []
    for t in (0.01, 0.2, 0.3, 0.35, 0.4):
        wanted = cv2.Canny(dx, dy, 0.4 * 16000 * t**2, 16000 * t**2, L2gradient=True) > 0
        np.testing.assert_array_equal(found >= t, wanted)
        shares.append(wanted.mean())
    assert len(set(shares)) > 3
    assert 0 < min(shares) < max(shares) < 0.5
    # As it is thin, thinning leaves nearly all of it.
    counts = count_boundaries(found, np.zeros((1, 60, 80), bool), thresholds=9)
    loose = count_boundaries(found, np.zeros((1, 60, 80), bool), thresholds=9, thin=False)
    assert counts[0, 3] > 0.75 * loose[0, 3]


def test_real_data_round_trip(tmp_path, run_tool):
    truths = shared('data/BSDS500/groundTruth/val')
    folder = tmp_path / 'truths'
    folder.mkdir()
    for path in sorted(truths.glob('*.mat'))[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    maps = tmp_path / 'maps'
    maps.mkdir()
    for path in folder.iterdir():
        # the share of annotators who marked a pixel, against themselves: a human upper bound
        write_boundary_map(maps / f'{path.stem}.png', read_annotations(path).mean(0))
    status, text = run_tool(EVAL, maps, folder, '--num-workers', 1, '--thresholds', 4)
    assert status == 0
    assert float(text.split('ODS ')[1].split()[0]) > 0.7
