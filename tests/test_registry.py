"""How the classes are found: with and without `import mmdla`, with libraries missing or broken."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip('mmseg')

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, cwd: Path | None = None, **env: str) -> str:
    """Run code in a fresh interpreter, away from the repository; its output."""
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_scoped_names_need_no_import(tmp_path):
    python(
        """
        from mmengine.registry import init_default_scope
        from mmseg.registry import DATASETS, MODELS, TRANSFORMS, VISUALIZERS
        init_default_scope('mmseg')
        model = MODELS.build(dict(
            type='EncoderDecoder',
            backbone=dict(type='mmdla.DLA', arch='46_c'),
            decode_head=dict(type='mmdla.IDAUpHead', in_channels=[64, 64, 128, 256], num_classes=3)))
        assert type(model.decode_head).__module__ == 'mmdla.models.decode_heads.ida_up_head'
        for registry, name in ((MODELS, 'IDAUp'), (MODELS, 'LogProbTTAModel'),
                               (DATASETS, 'CamVidDataset'), (DATASETS, 'DemoStreetsDataset'),
                               (TRANSFORMS, 'ReflectRotate'), (TRANSFORMS, 'ReflectPad'),
                               (VISUALIZERS, 'SegStripVisualizer')):
            assert registry.get('mmdla.' + name).__name__ == name, name
        """,
        tmp_path,
    )


def test_plain_names_after_import(tmp_path):
    python(
        """
        import mmdla
        from mmseg.registry import DATASETS, MODELS, TRANSFORMS, VISUALIZERS
        for registry, names in ((MODELS, ['DLA', 'IDAUp', 'IDAUpHead', 'LogProbTTAModel']),
                                (DATASETS, ['CamVidDataset', 'DemoStreetsDataset']),
                                (TRANSFORMS, ['ReflectRotate', 'ReflectPad']),
                                (VISUALIZERS, ['SegStripVisualizer'])):
            for name in names:
                assert registry.get(name).__name__ == name, name
        from mmpretrain.registry import MODELS as MMPRETRAIN
        from mmengine.registry import OPTIM_WRAPPERS
        assert MMPRETRAIN.get('DLA').__name__ == 'DLA'
        for layer in ('HDA', 'IDA', 'AggregationNode', 'LearnedUpsample', 'DLABasicBlock'):
            assert MMPRETRAIN.get(layer).__module__.startswith('mmdla.models.layers'), layer
        assert OPTIM_WRAPPERS.get('CPUAmpOptimWrapper').__name__ == 'CPUAmpOptimWrapper'
        """,
        tmp_path,
    )


@pytest.mark.parametrize('first', ['mmdla', 'mmpretrain'])
def test_mmpretrain_knows_the_models(tmp_path, first):
    """Whichever is imported first, once or again; nothing of it is imported for who does not use it."""
    pytest.importorskip('mmpretrain')
    python(
        f"""
        import importlib, sys
        import {first}
        if {first!r} == 'mmdla':
            assert 'mmpretrain' not in sys.modules
        import mmdla, mmpretrain
        importlib.reload(mmdla)
        names = mmpretrain.list_models('*dla*')
        assert names.count('dla34_imagenet') == 1
        assert 'dla34_cityscapes' not in names, 'not for mmpretrain to build'
        assert 'resnet50_8xb32_in1k' in mmpretrain.list_models()
        """,
        tmp_path,
    )


def test_an_extension_that_fails_leaves_the_module_usable(tmp_path):
    (tmp_path / 'other.py').write_text('x = 1')
    out = python(
        """
        from mmdla.utils.when_imported import when_imported
        calls = []
        when_imported('other', lambda: calls.append(1) or 1 / 0)
        import other
        import importlib
        importlib.reload(other)
        assert other.x == 1 and calls == [1]
        when_imported('json', lambda: calls.append(2))
        assert calls == [1, 2], 'imported already'
        """,
        tmp_path,
        PYTHONPATH=f'{tmp_path}:{ROOT}',
    )
    assert 'other could not be extended (ZeroDivisionError: division by zero)' in out


def test_import_after_mmseg_was_used(tmp_path):
    python(
        """
        from mmseg.registry import MODELS
        assert MODELS.get('FCNHead')
        import mmdla
        assert MODELS.get('IDAUpHead').__name__ == 'IDAUpHead'
        """,
        tmp_path,
    )


def test_backbones_import_neither_mmseg_nor_mmpretrain(tmp_path):
    out = python(
        """
        import sys
        from mmdla.models import DLA, IDAUp
        heavy = [m for m in ('mmseg.models', 'mmseg.datasets', 'mmpretrain', 'timm', 'scipy', 'pandas')
                 if m in sys.modules]
        assert not heavy, heavy
        print(len(sys.modules))
        """,
        tmp_path,
    )
    base = python('import sys, torch, mmengine.model, mmcv.cnn; print(len(sys.modules))', tmp_path)
    ours, theirs = int(out.split()[-1]), int(base.split()[-1])
    assert ours - theirs < 60, 'modules beyond torch, mmengine and mmcv.cnn'


HIDE = """
    import importlib.util, sys
    find_spec = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *a: None if name == {name!r} else find_spec(name, *a)
    sys.modules[{name!r}] = None
"""


def test_without_mmengine(tmp_path):
    out = python(
        textwrap.dedent(HIDE.format(name='mmengine'))
        + textwrap.dedent("""
        try:
            import mmdla
        except ImportError as error:
            print(error)
        """),
        tmp_path,
    )
    assert "mmdla needs mmengine, which is not installed: pip install 'mmdla[onedl]'" in out


def test_a_broken_library_bothers_only_who_uses_it(tmp_path):
    (tmp_path / 'mmseg').mkdir()
    (tmp_path / 'mmseg/__init__.py').write_text("raise RuntimeError('compiled for another torch')")
    out = python(
        """
        import warnings
        warnings.filterwarnings('error', message='.*mmseg')
        import mmdla
        from mmengine.registry import MODELS
        MODELS.build(dict(type='mmdla.DLA', arch='46_c'))
        for _ in range(2):
            try:
                MODELS.build(dict(type='mmdla.IDAUpHead'))
            except RuntimeError as error:
                print(error)
        """,
        tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert out.count('compiled for another torch') == 2


def test_mim_finds_configs_and_tools():
    import mmdla

    mim = Path(mmdla.__file__).parent / '.mim'
    assert (mim / 'configs/dla34_cityscapes.py').is_file()
    assert (mim / 'tools/train.py').is_file()
    assert (Path(mmdla.__file__).parent / 'py.typed').is_file()
