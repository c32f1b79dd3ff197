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
            ['with_cp', 'drn:a_18', 'drn:d_22', *(f'stage:{pair}' for pair in SAMPLE)], id='sample'
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
    out = run_ranks(tmp_path, STEPS, *steps)
    for step in steps:
        assert out.splitlines().count(f'done {step}') == 2, step
