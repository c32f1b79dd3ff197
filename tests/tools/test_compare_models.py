"""compare_models.py: what it counts, what it writes, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmdla.analysis.timing import ratio, time_interleaved, training_step

TOOL = 'benchmarks/compare_models.py'
DEMO = Path(__file__).resolve().parents[2] / 'configs/dla34-8s_demo.py'
CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone={},
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels={}))
"""


@pytest.fixture
def compare(run_tool):
    def run(*args):
        return run_tool(
            TOOL, '--shape', 64, 64, '--batch-size', 2, '--rounds', 2, '--device', 'cpu', *args
        )

    return run


@pytest.fixture
def configs(tmp_path) -> list[Path]:
    """Two small classifiers."""
    ours, theirs = tmp_path / 'dla46_c.py', tmp_path / 'resnet18.py'
    ours.write_text(CLASSIFIER.format(dict(type='mmdla.DLA', arch='46_c', out_indices=(5,)), 256))
    theirs.write_text(CLASSIFIER.format(dict(type='ResNet_CIFAR', depth=18), 512))
    return [ours, theirs]


def cells(text: str) -> dict[str, list[str]]:
    """Rows of the table, by name."""
    rows = (line[1:-1].split('|') for line in text.splitlines() if line.startswith('| '))
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.e2e
def test_counts_times_and_writes(compare, configs, tmp_path):
    out = tmp_path / 'out'
    args = (*configs, DEMO, '--reference', 'resnet18', '--out-dir', out)
    status, text = compare(*args)
    assert status == 0, text
    assert (out / 'table.md').read_text().strip() in text
    assert (out / 'plot.png').read_bytes().startswith(b'\x89PNG')
    figures = json.loads((out / 'figures.json').read_text())
    rows = cells(text)
    assert list(rows) == ['Model', 'dla46_c', 'resnet18', 'dla34-8s_demo']
    for path, found in zip([*configs, DEMO], figures['models']):
        cfg = Config.fromfile(path)
        cfg.model.get('data_preprocessor', {}).pop('size', None)
        text_cfg = cfg.pretty_text.replace("'SyncBN'", "'BN'")
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(Config.fromstring(text_cfg, '.py').model)
        assert found['params'] == sum(p.numel() for p in model.parameters())
        assert rows[path.stem][0] == f'{found["params"] / 1e6:.2f}'
        assert found['macs'] > 1e7
        assert found['saved'] > 64 * 64 * 4
        assert {len(v) for v in found['seconds'].values()} == {2}
        assert found['top1'] is None
    resnet = rows['resnet18']
    assert resnet[4] == resnet[6] == '1.00 (1.00-1.00)'
    seconds = [found['seconds']['inference'] for found in figures['models']]
    assert rows['dla46_c'][4].startswith(f'{ratio(seconds[0], seconds[1])[0]:.2f} (')

    assert compare(*args)[0] == 0, 'the same comparison again'
    status, text = compare(*args, '--no-training')
    assert status
    assert 'holds table.md, figures.json, plot.png of something else, or with other options' in text


def test_published_errors(compare, tmp_path):
    """Of mmpretrain's metafiles; timm's networks have none."""
    names = ('mobilenet-v2_8xb32_in1k', 'timm/resnet10t')
    status, text = compare(*names, '--no-training', '--out-dir', tmp_path)
    assert status == 0, text
    rows = cells(text)
    assert rows[names[0]][-2:] == ['28.14*', '9.58*']
    assert rows['resnet10t'][-2:] == ['', '']
    assert 'Training' not in text
    assert '* published with the model' in text
    assert (tmp_path / 'plot.png').is_file()


def test_names_what_is_wrong(compare, configs, tmp_path):
    def wrong(*args):
        status, text = compare(*args, '--out-dir', tmp_path / 'out')
        assert status
        return re.sub(r'\s+', ' ', text)

    assert 'there is no such config' in wrong(tmp_path / 'no.py')
    assert 'resnet50: must be the path of a config (.py) or a known name, as resnet' in wrong(
        'resnet50'
    )
    assert 'as timm/dla34' in wrong('timm/dla_34')
    assert '--reference dla34: must be one of ' in wrong(configs[0], '--reference', 'dla34')
    assert '--rounds 0: must be positive' in wrong(configs[0], '--rounds', 0)
    (tmp_path / 'schedule.py').write_text('train_cfg = dict(max_epochs=1)')
    assert 'must be a config with a model' in wrong(tmp_path / 'schedule.py')
    configs[0].write_text(CLASSIFIER.format(dict(type='mmdla.DLA', arch='46_c', out_indices=(5,)), 99))
    assert 'dla46_c.py: RuntimeError: ' in wrong(configs[0])
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/plot.png').write_text('mine')
    assert 'holds plot.png of something else' in wrong(configs[1])
    assert (tmp_path / 'out/plot.png').read_text() == 'mine'


def test_rounds_change_direction():
    calls = []
    times = time_interleaved([lambda i=i: calls.append(i) for i in range(3)], range(2))
    assert calls == [0, 1, 2, 0, 1, 2, 2, 1, 0]
    assert [len(t) for t in times] == [2, 2, 2]


def test_ratio_is_of_the_rounds():
    assert ratio([2, 9, 4, 6, 40], [1, 3, 4, 1, 4]) == (3, 2, 6)


def test_training_step_takes_any_output():
    class Two(torch.nn.Conv2d):
        def forward(self, x):
            return [super().forward(x), (x, x)]

    seen = []
    model = Two(3, 2, 1)
    model.weight.register_hook(lambda grad: seen.append(grad))
    training_step(model, torch.rand(1, 3, 4, 4))()
    assert seen[0].any()
    assert model.weight.grad is None
