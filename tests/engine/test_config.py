"""Configs as users write them: with names, with classes, with parts missing."""

from __future__ import annotations

from argparse import Namespace

import pytest
from conftest import ROOT, load_tool

pytest.importorskip('mmseg')
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from mmdla.engine.config import read_config, scope_of, type_name
from mmdla.engine.platform import adapt_to_platform, enable_amp
from mmdla.engine.runner import add_hooks

LAZY = """
from mmengine.config import read_base
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.evaluation import IoUMetric
from mmseg.visualization import SegLocalVisualizer
from torch.nn import SyncBatchNorm
default_scope = {scope!r}
model = dict(backbone=dict(norm_cfg=dict(type=SyncBatchNorm)))
optim_wrapper = dict(type={wrapper})
test_evaluator = dict(type=IoUMetric, iou_metrics=['mIoU'])
default_hooks = dict(visualization=dict(type=SegVisualizationHook), checkpoint=dict(type=CheckpointHook))
visualizer = dict(type=SegLocalVisualizer, name='visualizer')
"""


def lazy(folder, scope='mmseg', wrapper='OptimWrapper'):
    path = folder / 'lazy.py'
    path.write_text(LAZY.format(scope=scope, wrapper=wrapper))
    return Config.fromfile(path)


def test_types_are_names_or_classes(tmp_path):
    assert type_name(dict(type='mmdla.DLA')) == 'DLA'
    assert type_name(dict(type=CheckpointHook)) == 'CheckpointHook'
    assert type_name(lazy(tmp_path).test_evaluator) == 'IoUMetric'
    assert type_name({}) == ''


@pytest.mark.parametrize('scope', [None, 'mmseg'])
def test_scopes_of_pure_python_configs(tmp_path, scope):
    lazy(tmp_path, scope)
    cfg = read_config(Namespace(config=str(tmp_path / 'lazy.py'), cfg_options=None))
    assert scope_of(cfg) == scope or 'mmengine'


def test_pure_python_configs_are_adapted_to_the_platform(tmp_path, monkeypatch):
    monkeypatch.setattr('mmdla.engine.platform.get_device', lambda: 'cpu')
    cfg = lazy(tmp_path, wrapper='AmpOptimWrapper')
    adapt_to_platform(cfg)
    assert type_name(cfg.optim_wrapper) == 'CPUAmpOptimWrapper'
    assert cfg.model.backbone.norm_cfg.type == 'BN'
    cfg = lazy(tmp_path)
    enable_amp(cfg.optim_wrapper)
    assert type_name(cfg.optim_wrapper) == 'CPUAmpOptimWrapper'
    add_hooks(cfg, train=True)
    assert cfg.default_hooks.checkpoint.type == 'mmdla.AtomicCheckpointHook'


def test_options_of_the_tests_tool(tmp_path):
    tool = load_tool('test.py')
    for cfg in (lazy(tmp_path), Config(dict(test_evaluator=[dict(type='IoUMetric')]))):
        cfg.test_dataloader = dict(dataset=dict(data_root='data', data_prefix=dict(img_path='images')))
        tool.write_label_maps(cfg, 'maps')
        (evaluator,) = (
            cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        )
        assert type_name(evaluator) == 'LabelMapIoUMetric'
        assert (evaluator.output_dir, evaluator.root) == ('maps', 'data/images')
    cfg = lazy(tmp_path)
    tool.draw_pictures(cfg, 'pictures')
    assert cfg.default_hooks.visualization.draw
    with pytest.raises(ValueError, match=r"--out: test_evaluator needs an IoUMetric.*\['Accuracy'\]"):
        tool.write_label_maps(Config(dict(test_evaluator=dict(type='Accuracy'))), 'maps')


def test_a_config_without_a_test_part(run_tool, tmp_path):
    """mmengine says which settings are missing."""
    (tmp_path / 'train_only.py').write_text(
        "default_scope = 'mmseg'\n"
        "model = dict(type='EncoderDecoder', backbone=dict(type='mmdla.DLA', arch='46_c'),\n"
        "             decode_head=dict(type='mmdla.IDAUpHead', in_channels=[64, 64, 128, 256], num_classes=2))\n"
    )
    (tmp_path / 'a.pth').write_bytes(b'unread')
    with pytest.raises(RuntimeError, match=r'test_dataloader.*test_cfg.*test_evaluator'):
        run_tool(
            'test.py', tmp_path / 'train_only.py', tmp_path / 'a.pth', '--work-dir', tmp_path / 'w'
        )


def test_a_checkpoint_that_is_not_there(run_tool, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth.*there is no such file'):
        run_tool('test.py', ROOT / 'configs/dla34_demo.py', tmp_path / 'nowhere.pth')
