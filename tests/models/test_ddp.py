"""Training in two processes: every parameter gets a gradient, on odd sizes too, and ranks agree.

One process group runs all the steps, since starting processes takes longer than the steps.
"""

from __future__ import annotations

import pytest
from conftest import run_ranks

from mmdla.models import DRN
from mmdla.models.layers import FORMS

PAPERS_BLOCKS = ['basic', 'bottleneck', 'split', 'res2net']
MMPRETRAINS_BLOCKS = [
    'mmdla.ResNetBasicBlock',
    'mmdla.ResNetBottleneck',
    'mmdla.ResNeXtBottleneck',
    'mmdla.ConvNeXtBlock',
    'mmdla.InvertedResidual',
    'mmdla.RepVGGBlock',
]
BLOCKS = PAPERS_BLOCKS + MMPRETRAINS_BLOCKS
ALL = [f'{form}:{block}' for form in FORMS for block in BLOCKS]
# Every form and every block at least once.
SAMPLE = [f'{list(FORMS)[i % 6]}:{block}' for i, block in enumerate(BLOCKS)]

STEPS = """
from mmdla.models import DLA, DRN, IDAUp

def step(model, size):
    model.zero_grad()
    sum(level.mean() for level in model(torch.randn(2, 3, *size))).backward()

def test_drn(arch):
    model = DistributedDataParallel(DRN(arch))
    torch.manual_seed(dist.get_rank())
    for size in [(64, 64), (65, 97), (71, 90)]:
        for _ in range(2):  # the second step fails if a parameter got no gradient in the first
            step(model, size)
    grad = next(model.parameters()).grad
    both = [torch.empty_like(grad) for _ in range(2)]
    dist.all_gather(both, grad)
    assert torch.equal(*both), arch

def test_stage(form, block):
    arch = dict(block=block, tree_depths=(1, 2, 2, 1), channels=(8, 16, 64, 64, 64, 64))
    model = DistributedDataParallel(DLA(arch, aggregation=form))
    for size in [(65, 47), (33, 50), (97, 66)]:
        step(model, size)

def train(with_cp):
    torch.manual_seed(0)
    backbone = DLA('46_c', out_indices=(1, 2, 3), with_cp=with_cp)
    model = DistributedDataParallel(
        torch.nn.Sequential(backbone, IDAUp(backbone.channels[1:4], with_cp=with_cp)),
        bucket_cap_mb=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(dist.get_rank())
    for step in range(2):
        with model.no_sync():  # accumulated
            model(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
        model(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()

def test_with_cp():
    wanted = train(False)
    selective = hasattr(torch.utils.checkpoint, 'create_selective_checkpoint_contexts')
    for with_cp in ('norm', True) if selective else (True,):
        found = train(with_cp)
        assert all(torch.equal(v, wanted[k]) for k, v in found.items()), with_cp

def test_afa(head):
    import mmseg.models
    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    init_default_scope('mmseg')
    arch = dict(block='basic', tree_depths=(1, 2, 1, 1), channels=(4, 4, 8, 8, 16, 16))
    heads = dict(LinearHead=dict(stride=2), ObjectContextHead=dict(channels=6, ocr_channels=4))
    model = MODELS.build(ConfigDict(
        type='mmdla.MultiScaleSegmentor',
        backbone=dict(type='mmdla.DLA', arch=arch, out_indices=(1, 2, 3, 4, 5)),
        neck=dict(type='mmdla.AFAUp', in_channels=[4, 8, 8, 16, 16], norm_cfg=dict(type='BN')),
        decode_head=dict(type=f'mmdla.{head}', in_channels=4, num_classes=3, **heads[head]),
        auxiliary_head=[
            dict(type='mmdla.LinearHead', in_channels=c, in_index=i, stride=16 // 2**i, num_classes=3)
            for i, c in enumerate((16, 8, 8, 4))],
        scale_attention=dict(
            type='mmdla.ScaleSpaceRendering', channels=4 if head == 'LinearHead' else 6),
        train_cfg=dict(scales=(0.5, 1)), test_cfg=dict(mode='whole')))
    model = DistributedDataParallel(model)
    torch.manual_seed(dist.get_rank())
    for size in [(64, 64), (65, 97), (71, 90)]:
        labels = torch.randint(0, 3, (2, *size))
        samples = [SegDataSample(gt_sem_seg=PixelData(data=y[None])) for y in labels]
        model.zero_grad()
        losses = model(torch.randn(2, 3, *size), samples, mode='loss')
        model.module.parse_losses(losses)[0].backward()
    grad = model.module.scale_space_attn.final[0].weight.grad
    both = [torch.empty_like(grad) for _ in range(2)]
    dist.all_gather(both, grad)
    assert torch.equal(*both) and grad.abs().max() > 0

for step_name in sys.argv[1:]:
    name, *args = step_name.split(':')
    torch.manual_seed(0)
    globals()['test_' + name](*args)
    sys.stdout.write(f'done {step_name}\\n')  # in one write, so that the lines of two ranks stay apart
"""


@pytest.mark.ddp
@pytest.mark.parametrize(
    'steps',
    [
        pytest.param(
            [
                *('with_cp', 'drn:a_18', 'drn:d_22', 'afa:LinearHead', 'afa:ObjectContextHead'),
                *(f'stage:{pair}' for pair in SAMPLE),
            ],
            id='sample',
        ),
        pytest.param(
            [*(f'drn:{arch}' for arch in DRN.arch_settings), *(f'stage:{pair}' for pair in ALL)],
            id='all',
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes(steps, tmp_path):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmseg')
    out = run_ranks(tmp_path, STEPS, *steps)
    for step in steps:
        assert out.splitlines().count(f'done {step}') == 2, step
