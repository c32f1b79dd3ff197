"""Networks as ONNX files and exported programs: what these compute, at any size, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')
import mmseg.models  # noqa: F401
from conftest import random_norms
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmseg.structures import SegDataSample

import mmdla
from mmdla.checkpoints import CheckpointError, load_model
from mmdla.deploy.exporting import ExportError, Graph, export, load, task_of
from mmdla.engine.config import build_model
from mmdla.models import DLA, DRN
from mmdla.models.layers import pooling, upsampling
from mmdla.utils.predictions import boundary_probability

ROOT = Path(__file__).resolve().parents[2]
ODD, EVEN = (65, 97), (64, 96)
# Even, odd, mixed, and so small that the deepest maps are one pixel.
SIZES = [EVEN, ODD, (71, 50), (129, 34), (5, 2)]
SUFFIX = dict(onnx='onnx', torch_export='pt2')
PREPROCESSOR = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
SEG_PREPROCESSOR = dict(type='mmseg.SegDataPreProcessor', bgr_to_rgb=True, **PREPROCESSOR)
CLS_PREPROCESSOR = dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True, **PREPROCESSOR)
# Three levels of which the second is a tree of trees.
SMALL_DLA = dict(
    type='mmdla.DLA',
    arch=dict(block='basic', tree_depths=(1, 2, 1, 1), channels=(4, 4, 8, 8, 8, 8)),
    out_indices=(1, 2, 3),
)
SMALL_DRN = dict(
    type='mmdla.DRN',
    arch=dict(block='basic', depths=(1,) * 8, channels=(4, 4, 4, 8, 8, 8, 8, 8)),
)
IDA_UP = dict(type='mmdla.IDAUpHead', in_channels=[4, 8, 8], num_classes=3)


def segmentor(backbone: dict, head: dict) -> dict:
    return dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=SEG_PREPROCESSOR,
        backbone=backbone,
        decode_head=head,
        test_cfg=ConfigDict(mode='whole'),
    )


def classifier(backbone: dict, channels: int, maps: bool = False) -> dict:
    head = 'mmdla.ClassMapHead' if maps else 'mmpretrain.LinearClsHead'
    return dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=CLS_PREPROCESSOR,
        backbone=backbone,
        neck=None if maps else dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type=head, num_classes=3, in_channels=channels),
    )


def linear(upsample: str) -> dict:
    return dict(type='mmdla.LinearHead', in_channels=8, num_classes=3, upsample=upsample)


SETTINGS = dict(
    classifier=classifier(SMALL_DLA | dict(out_indices=(3,)), 8),
    class_maps=classifier(SMALL_DLA | dict(out_indices=(3,)), 8, maps=True),
    ida_up=segmentor(SMALL_DLA, IDA_UP),
    ida_up_bilinear=segmentor(
        SMALL_DLA, IDA_UP | dict(variant='single', upsample='bilinear', align_corners=True)
    ),
    ida_up_one_output=segmentor(SMALL_DLA, IDA_UP | dict(num_classes=2, out_channels=1)),
    linear_bilinear=segmentor(SMALL_DRN, linear('bilinear')),
    linear_deconv=segmentor(SMALL_DRN, linear('deconv')),
    boundaries=segmentor(SMALL_DLA, dict(type='mmdla.BoundaryHead', in_channels=[4, 8, 8])),
    boundaries_one_output=segmentor(
        SMALL_DLA, dict(type='mmdla.BoundaryHead', in_channels=[4, 8, 8], out_channels=1)
    ),
    boundaries_sides=segmentor(
        SMALL_DLA, dict(type='mmdla.SideOutputHead', in_channels=[4, 8, 8], strides=[2, 4, 8])
    ),
    boundaries_average=segmentor(
        SMALL_DLA,
        dict(
            type='mmdla.SideOutputHead',
            in_channels=[4, 8, 8],
            strides=[2, 4, 8],
            prediction='average',
        ),
    ),
)
# The smallest there is.
TINY = classifier(SMALL_DLA | dict(out_indices=(0,)), 4)


def build(settings: dict) -> nn.Module:
    torch.manual_seed(0)
    return random_norms(MODELS.build(settings))


def largest_difference(run, model: nn.Module, sizes=SIZES, normalize: bool = False) -> float:
    """Between a file's outputs and the model's, as a fraction of the largest value."""
    graph, largest = Graph(model, normalize).eval(), 0.0
    for batch, size in enumerate(sizes, 1):
        images = torch.randn(batch, 3, *size)
        images = (images + 2) * 50 if normalize else images
        with torch.no_grad():
            wanted = graph(images)
        found = run(images)
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            assert found[name].shape == value.shape
            largest = max(largest, float((found[name] - value).abs().max() / value.abs().max()))
    return largest


def check(model: nn.Module, tmp_path: Path, format: str, size: tuple[int, int], sizes=SIZES) -> None:
    file = tmp_path / f'model.{SUFFIX[format]}'
    assert export(model, torch.randn(1, 3, *size), file, format) <= 1e-4
    assert [p.name for p in tmp_path.iterdir()] == [file.name], 'one file, and nothing beside it'
    assert largest_difference(load(file)[0], model, sizes) <= 1e-4


@pytest.mark.compile
@pytest.mark.parametrize(
    ('name', 'format', 'size'),
    [
        ('classifier', 'torch_export', ODD),
        ('class_maps', 'onnx', EVEN),
        ('ida_up', 'onnx', ODD),
        ('ida_up', 'torch_export', EVEN),
        ('linear_bilinear', 'torch_export', EVEN),
        ('linear_deconv', 'onnx', ODD),
        ('boundaries', 'torch_export', ODD),
        ('boundaries_average', 'onnx', ODD),
    ],
)
def test_files_compute_what_the_model_does(name, format, size, tmp_path):
    check(build(SETTINGS[name]), tmp_path, format, size)


@pytest.mark.parametrize('name', SETTINGS)
def test_what_is_exported_is_what_the_model_predicts(name):
    model, images = build(SETTINGS[name]), torch.randn(2, 3, 21, 34)
    size = (21, 34)
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    with torch.no_grad():
        found = Graph(model)(images)
        if SETTINGS[name]['type'] == 'mmpretrain.ImageClassifier':
            samples = model.predict(images)
            wanted = dict(scores=[s.pred_score for s in samples])
            if 'class_maps' in found:
                wanted['class_maps'] = [s.class_maps for s in samples]
        else:
            samples = model.predict(images, [SegDataSample(metainfo=meta) for _ in images])
            wanted = dict(logits=[s.seg_logits.data for s in samples])
            if name.startswith('boundaries'):
                wanted = dict(probability=[boundary_probability(s) for s in samples])
            elif name == 'ida_up_one_output':  # mmseg gives its sigmoid
                found['logits'] = found['logits'].sigmoid()
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        torch.testing.assert_close(found[key], torch.stack(values))


@pytest.mark.slow
@pytest.mark.parametrize('size', [ODD, EVEN, (64, 97), (7, 33)])
@pytest.mark.parametrize('format', SUFFIX)
@pytest.mark.parametrize('name', SETTINGS)
def test_every_task_format_and_parity(name, format, size, tmp_path):
    # PyTorch's exporter binds a convolution to one channel to maps larger than one pixel.
    one = name in ('boundaries_sides', 'boundaries_average') and format == 'torch_export'
    check(build(SETTINGS[name]), tmp_path, format, size, SIZES[:-1] if one else SIZES)


@pytest.mark.slow
@pytest.mark.parametrize('format', SUFFIX)
@pytest.mark.parametrize(
    ('type', 'arch'),
    [(c, arch) for c in (DLA, DRN) for arch in c.arch_settings],
    ids=lambda value: getattr(value, '__name__', value),
)
def test_every_architecture(type, arch, format, tmp_path):
    backbone = type(arch).eval()
    channels = backbone(torch.zeros(1, 3, 32, 32))[-1].shape[1]
    last = dict(out_indices=(backbone.out_indices[-1],))
    model = build(classifier(dict(type=f'mmdla.{type.__name__}', arch=arch, **last), channels))
    fit_norms(model)
    check(model, tmp_path, format, ODD, sizes=[EVEN, (71, 50)])


@pytest.mark.slow
@pytest.mark.parametrize('format', SUFFIX)
@pytest.mark.parametrize('aggregation', ['none', 'shallow', 'ida', 'tree', 'reentrant', 'hda'])
@pytest.mark.parametrize('output_stride', [8, 32])
def test_every_form_and_dilation(aggregation, output_stride, format, tmp_path):
    backbone = dict(SMALL_DLA, aggregation=aggregation, output_stride=output_stride, out_indices=(5,))
    check(build(classifier(backbone, 8, maps=True)), tmp_path, format, ODD)


def test_without_branches_the_same(monkeypatch):
    """What is traced in place of code that looks at sizes gives the same bits."""
    forms = {
        'pooled': lambda x: pooling.pooling(2)(x),
        'smaller': lambda x: upsampling.match_size(x, (x.shape[2] - 1, x.shape[3] - 3), 3),
        'larger': lambda x: upsampling.match_size(x, (x.shape[2] + 3, x.shape[3] + 1), 3),
        'both': lambda x: upsampling.match_size(x, (x.shape[2] - 1, x.shape[3] + 2), 3),
        'equal': lambda x: upsampling.match_size(x, tuple(x.shape[2:]), 0),
    }
    for size in [(4, 4), (5, 4), (4, 7), (9, 5)]:
        x = torch.randn(2, 3, *size) - 3  # all negative, almost: a padding of zeros would show
        wanted = {name: form(x) for name, form in forms.items()}
        with monkeypatch.context() as patch:
            for module in (pooling, upsampling):
                patch.setattr(module, 'exporting', lambda: True)
            for name, form in forms.items():
                assert torch.equal(form(x), wanted[name]), (name, size)


def test_channels_of_segmentors(monkeypatch):
    """Upstream's mmseg and OneDL's keep the flag under different names."""
    pytest.importorskip('mmseg')
    from mmengine.config import Config

    from mmdla.engine.config import build_model

    cfg = Config.fromfile(ROOT / 'configs/dla34_demo.py')
    assert cfg.model.data_preprocessor.bgr_to_rgb
    assert Graph(build_model(cfg)).channels == 'RGB'
    cfg.model.data_preprocessor.bgr_to_rgb = False
    assert Graph(build_model(cfg)).channels == 'BGR'


def test_optimized_models_are_refused():
    from mmdla.deploy import optimize

    quick = optimize(build(TINY).eval(), torch.rand(1, 3, 64, 64), compile=False)
    with pytest.raises(ValueError, match='export the original model'):
        task_of(quick)


def test_metadata_and_normalization_are_in_the_file(tmp_path):
    model = build(TINY)
    model.train()
    modes = [m.training for m in model.modules()]
    images = torch.rand(1, 3, 8, 8) * 255
    for format, suffix in SUFFIX.items():
        file = tmp_path / 'deep/er' / f'model.{suffix}'
        export(model, images, file, format, normalize=True, classes=['a', 'b', 'ç'])
        run, metadata = load(file)
        assert metadata == dict(
            task='classification', classes=['a', 'b', 'ç'], channels='RGB', normalized=True,
            mean=PREPROCESSOR['mean'], std=PREPROCESSOR['std'], mmdla=mmdla.__version__,
        )  # fmt: skip
        assert [m.training for m in model.modules()] == modes, 'the model is left as it was'
        assert largest_difference(run, model.eval(), normalize=True) <= 1e-4
        normalized = model.data_preprocessor(dict(inputs=images.flip(1)))['inputs']
        with torch.no_grad():
            scores = model.head.predict(model.extract_feat(normalized))[0].pred_score
        torch.testing.assert_close(run(images)['scores'][0], scores)
        for module, training in zip(model.modules(), modes):
            module.training = training

    import onnx
    import onnxruntime

    onnx.checker.check_model(str(tmp_path / 'deep/er/model.onnx'), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / 'deep/er/model.onnx'))
    assert [(v.name, v.shape) for v in session.get_inputs()] == [
        ('images', ['batch', 3, 'height', 'width'])
    ]
    assert [(v.name, v.shape) for v in session.get_outputs()] == [('scores', ['batch', 3])]
    held = session.get_modelmeta().custom_metadata_map
    assert json.loads(held['mmdla'])['classes'] == ['a', 'b', 'ç']


@pytest.mark.compile
@pytest.mark.parametrize('format', ['onnx', 'torch_export'])
def test_files_say_how_logits_become_labels(format, tmp_path):
    wanted = dict(
        ida_up=dict(labels='argmax(logits, axis=1)'),
        ida_up_one_output=dict(labels='sigmoid(logits) > threshold', threshold=0.3),  # mmseg's default
        boundaries_one_output={},
        classifier={},
    )
    for name, told in wanted.items():
        file = tmp_path / f'{name}.{SUFFIX[format]}'
        export(build(SETTINGS[name]), torch.randn(1, 3, 33, 34), file, format)
        about = load(file)[1]
        assert {key: about[key] for key in ('labels', 'threshold') if key in about} == told


class Folding(nn.Module):
    """A backbone that asks for even sizes."""

    def forward(self, x):
        return (F.pad(x, (0, 0, 0, 1)) if x.shape[2] % 2 else x,)


def test_what_cannot_be_exported_is_said_and_nothing_is_left(tmp_path):
    model, images = build(TINY), torch.randn(1, 3, 8, 8)
    file = tmp_path / 'model.onnx'

    def wrong(error, match, *args, **kwargs):
        with pytest.raises(error, match=match):
            export(*args, **kwargs)

    wrong(ValueError, r"format='tflite': must be one of \['onnx', 't", model, images, file, 'tflite')
    wrong(
        ValueError, r"must end in .pt2 with format='torch_export'", model, images, file, 'torch_export'
    )
    wrong(ValueError, r'example: .* not a tensor of shape \(3, 8, 8\)', model, images[0], file)
    wrong(ValueError, r'example: .* of float32, not .* torch.uint8', model, images.byte(), file)
    wrong(ValueError, r'example: .*, not list', model, [images], file)
    wrong(ValueError, r'shape \(1, 3, 0, 8\): must hold', model, images[:, :, :0], file)
    wrong(
        ValueError, 'classes: 2 names; must be as many .*, 3', model, images, file, classes=['a', 'b']
    )
    wrong(
        ValueError, "model of type Conv2d: must be mmpretrain's Image", nn.Conv2d(3, 3, 1), images, file
    )
    plain = build(TINY | dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')))
    wrong(ValueError, 'normalize=True: .* no mean', plain, images, file, normalize=True)
    head = dict(type='mmpretrain.MultiLabelLinearClsHead', num_classes=3, in_channels=4)
    labels = build(TINY | dict(head=head))
    wrong(ValueError, 'its head is a MultiLabelLinearClsHead; must be a ClsHead', labels, images, file)
    folding = build(TINY | dict(head=dict(TINY['head'], in_channels=3)))
    folding.backbone = Folding()
    wrong(
        ExportError,
        r'its computation depends on the size of the images \(Not all',
        folding,
        images,
        file,
    )
    # Beyond the tolerance, which nothing is within.
    wrong(ExportError, r'scores of 1x3x8x8 .* more than tolerance=-1;.* written', model, images, file,
          tolerance=-1)  # fmt: skip
    model.head.fc.weight.data.fill_(torch.nan)
    wrong(ExportError, "model's own scores of 1x3x8x8 images are not finite", model, images, file)
    assert not list(tmp_path.iterdir())
    file.write_text('mine')
    wrong(FileExistsError, 'exists already: move it away', model, images, file)
    assert file.read_text() == 'mine'
    with pytest.raises(FileNotFoundError, match='no such file'):
        load(tmp_path / 'none.onnx')
    (tmp_path / 'a.txt').touch()
    with pytest.raises(ValueError, match=r"format='.txt': must be one of"):
        load(tmp_path / 'a.txt')


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    model, images = build(TINY), torch.randn(1, 3, 8, 8)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name.startswith('onnxs') else found(name)
    )
    with pytest.raises(
        ImportError, match=r'needs onnxscript, not installed here: pip install onnxscript'
    ):
        export(model, images, tmp_path / 'model.onnx')
    monkeypatch.delattr(torch.compiler, 'is_exporting')
    with pytest.raises(ImportError, match=r'needs PyTorch 2\.\d or later; this is 2\.'):
        export(model, images, tmp_path / 'model.pt2', 'torch_export')
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_refused():
    model, state = build(TINY), {k: v + 1 for k, v in build(TINY).state_dict().items()}
    # As the authors' file of a classifier has it, behind DataParallel.
    released = {k.replace('backbone.', '').replace('head.', ''): v for k, v in state.items()}
    released['fc.weight'] = released['fc.weight'][..., None, None]
    released |= {'level2.root.bn.weight': torch.zeros(8), 'level2.root.conv.weight': torch.zeros(8)}
    for held in (state, dict(state_dict=state), {f'module.{k}': v for k, v in released.items()}):
        model = build(TINY)
        load_model(model, held, 'here')
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    wrong = {
        'of another network than the model; head.fc.bias .missing.': {
            k: v for k, v in state.items() if k != 'head.fc.bias'
        },
        r'head.fc.bias .is \(7,\), must be \(3,\)': state | {'head.fc.bias': torch.zeros(7)},
        'neck.weight .not in the model.': state | {'neck.weight': torch.zeros(7)},
        'none of its parameters is one of the model, ImageClassifier with DLA': dict(x=torch.zeros(1)),
    }
    for match, held in wrong.items():
        with pytest.raises(CheckpointError, match=match):
            load_model(model, held, 'here')


@pytest.fixture
def written(tmp_path) -> tuple[Path, Path, Path]:
    """A config, a checkpoint, and where to write."""
    config = Config(dict(default_scope='mmpretrain', model=TINY))
    config.dump(tmp_path / 'tiny.py')
    meta = dict(dataset_meta=dict(CLASSES=('a', 'b', 'c')))
    torch.save(dict(state_dict=build(TINY).state_dict(), meta=meta), tmp_path / 'tiny.pth')
    return tmp_path / 'tiny.py', tmp_path / 'tiny.pth', tmp_path / 'out/tiny.onnx'


def test_the_tool_exports_and_says_how_well(written, run_tool):
    config, checkpoint, out = written
    status, text = run_tool('deployment/export.py', config, checkpoint, '--out', out, '--normalize')
    assert status == 0, text
    assert f'Written: {out}; at 224x288 and 225x289 its outputs differ' in text
    run, metadata = load(out)
    assert metadata['classes'] == ['a', 'b', 'c']
    assert metadata['normalized'] is True
    model = build(TINY)
    assert largest_difference(run, model, normalize=True) <= 1e-4
    status, text = run_tool('deployment/export.py', config, checkpoint, '--out', out)
    assert 'exists already' in text
    assert status


def test_the_tool_says_what_is_wrong(written, run_tool):
    config, checkpoint, out = written
    options = ['--cfg-options', 'model.head.num_classes=4']
    cases = {
        'of another network than the model; head.fc.weight (is (3, 4), must be (4, 4))': [
            config, checkpoint, '--out', out, *options,
        ],
        'there is no such file': [config, checkpoint.with_name('none.pth'), '--out', out],
        'there is no such config': [config.with_name('none.py'), checkpoint, '--out', out],
        'must end in .onnx': [config, checkpoint, '--out', out.with_suffix('.pt')],
        'two positive numbers': [config, checkpoint, '--out', out, '--shape', 0, 8],
        "invalid choice: 'tflite'": [config, checkpoint, '--out', out, '--format', 'tflite'],
    }  # fmt: skip
    for message, args in cases.items():
        status, text = run_tool('deployment/export.py', *args)
        assert message in text, text
        assert status
    assert not out.parent.exists()


@pytest.mark.e2e
def test_the_code_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / 'docs/deployment.md').read_text()
    onnx, torch_export, python = re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    images = torch.randn(1, 3, 9, 12)
    values = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(values).save('street.png')
    normalized = (values - np.array(PREPROCESSOR['mean'])) / np.array(PREPROCESSOR['std'])
    normalized = torch.from_numpy(normalized).float().permute(2, 0, 1)[None]
    for name, classes in dict(
        linear_bilinear=['road', 'sky', 'car'], ida_up_one_output=['no', 'yes']
    ).items():
        model = build(SETTINGS[name])
        if name == 'ida_up_one_output':  # another than mmseg's default, and not one-sided
            with torch.no_grad():
                layer = model.decode_head.conv_seg
                layer.bias.zero_()
                spread, middle = torch.std_mean(Graph(model)(normalized)['logits'])
                layer.weight /= spread
                layer.bias -= middle / spread
            model.decode_head.threshold = 0.4
        with torch.no_grad():
            wanted = model.predict(normalized)[0].pred_sem_seg.data[0].numpy()
        Path('dla34.onnx').unlink(missing_ok=True)
        export(model, images, 'dla34.onnx', classes=classes)
        exec(onnx, names := {})
        assert np.array_equal(names['labels'], wanted)
        assert len(np.unique(wanted)) > (name == 'ida_up_one_output')
        assert sum(eval(capsys.readouterr().out).values()) == 9 * 12
    export(build(TINY), images, 'dla34.pt2', 'torch_export', classes=['cat', 'dog', 'cow'])
    exec(torch_export, {})
    assert capsys.readouterr().out.strip() in ('cat', 'dog', 'cow')
    names = dict(model=build(TINY), images=images)
    exec(python, names)
    assert names['outputs']['scores'].shape == (1, 3)


@pytest.mark.slow
@pytest.mark.parametrize('format', SUFFIX)
@pytest.mark.parametrize(
    'name',
    ['dla34_cityscapes', 'dla34-8s_cityscapes', 'drn_d_22_cityscapes', 'drn_c_26_cityscapes',
     'dla34_bsds500', 'dla34_imagenet', 'drn_c_26_imagenet-boxes', 'dla34_cifar10-small',
     'dla-mobilenet-8s_demo'],
)  # fmt: skip
def test_configs_through_the_tool(name, format, tmp_path, run_tool):
    config = ROOT / f'configs/{name}.py'
    cfg = Config.fromfile(config)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = build_model(cfg)
    model.init_weights()
    fit_norms(model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'model.pth')
    out = tmp_path / f'model.{SUFFIX[format]}'
    args = ['--format', format, '--out', out, '--shape', 65, 97]
    status, text = run_tool('deployment/export.py', config, tmp_path / 'model.pth', *args)
    assert status == 0, text
    run, metadata = load(out)
    graph = Graph(model).eval()
    for size in [(64, 96), (71, 130)]:
        images = torch.randn(2, 3, *size)
        found = run(images)
        with torch.no_grad():
            responses = graph.raw_outputs(images)
            wanted = graph.activate(responses)
        for key, value in wanted.items():
            scale = max(value.abs().max(), responses[key].abs().max())
            assert (found[key] - value).abs().max() <= 1e-4 * scale
    # Folders of images have no names but those that a training checkpoint tells.
    assert metadata['classes'] is None or len(metadata['classes']) == graph.num_classes


def fit_norms(model: nn.Module) -> None:
    """Give batch norms the statistics of random images, or the values would grow level by level."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        feats = model.backbone(torch.randn(2, 3, 129, 161))
        if hasattr(model, 'decode_head'):
            model.decode_head(feats)
    model.eval()
