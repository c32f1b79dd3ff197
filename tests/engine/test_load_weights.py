"""What a run begins from, or tests, is the model's weights, and every entry of the file is accounted for."""

from __future__ import annotations

import logging

import pytest
import torch
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import CheckpointLoader
from torch import nn

from mmdla.checkpoints import CheckpointError, IncompleteError
from mmdla.engine.hooks import LoadWeightsHook
from mmdla.engine.resume import WorkDirError, check_same_network
from mmdla.engine.runner import ReproducibleRunner
from mmdla.io.checkpoint_files import load_for_mmengine


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """mmengine's loaders, as the tools set them."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    CheckpointLoader.register_scheme('', load_for_mmengine, force=True)


class Net(BaseModel):
    def __init__(self, classes=3):
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4, classes)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head(self.backbone(inputs).mean((2, 3)))


class Averaged(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list


class Four(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.ones(3, 2, 2))


LOADER = dict(dataset=Four(), batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler'))


def run(tmp_path, path, model, train=False, hooks=(), **hook) -> ReproducibleRunner:
    """Load as a run does; what was said is in the log."""
    made = {}
    if train:
        made = dict(
            train_dataloader=LOADER,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0)),
        )
    else:
        made = dict(
            test_dataloader=LOADER,
            test_cfg={},
            test_evaluator=[dict(type='DumpResults', out_file_path=f'{tmp_path}/o.pkl')],
        )
    runner = ReproducibleRunner(
        model, work_dir=str(tmp_path / 'work'), load_from=str(path), experiment_name=str(tmp_path),
        custom_hooks=[LoadWeightsHook(**hook), *hooks], default_scope='mmengine', **made,
    )  # fmt: skip
    if train:
        runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.load_or_resume()
    return runner


def save(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def same(model, state) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[name], value) for name, value in state.items())


CONTAINERS = {
    'own names': lambda state: dict(state_dict=state, meta={}),
    'Lightning': lambda state: dict(
        state_dict={f'model.net.{k}': v for k, v in state.items()}, epoch=3
    ),
    'timm': lambda state: dict(model={f'module.{k}': v for k, v in state.items()}, optimizer={}),
    'a list': lambda state: [dict(state), dict(other=torch.zeros(2))],
}


@pytest.mark.parametrize('train', [True, False], ids=['train', 'test'])
@pytest.mark.parametrize('kind', CONTAINERS)
def test_weights_below_any_prefix(tmp_path, kind, train):
    state = Net().state_dict()
    found = run(tmp_path, save(tmp_path, CONTAINERS[kind](state)), Net(), train).model
    assert same(found, state)


def test_a_model_that_is_wrapped(tmp_path):
    state = Net().state_dict()
    path = save(tmp_path, dict(state_dict=state))
    assert same(run(tmp_path, path, Averaged(Net())).model.module, state)


def test_testing_needs_the_whole_model(tmp_path):
    """Of a part, or of another shape, the figures would be those of an untrained network."""
    state = Net().state_dict()
    for part in ({k: v for k, v in state.items() if 'head' not in k}, Net(5).state_dict()):
        path = save(tmp_path, dict(state_dict=part))
        with pytest.raises(IncompleteError, match=r'head\.weight.*load_strict=False'):
            run(tmp_path, path, Net())
        backbone = {k: v for k, v in part.items() if 'head' not in k}
        assert same(run(tmp_path, path, Net(), strict=False).model, backbone)


def test_training_begins_from_a_part_and_says_what_it_lacks(tmp_path, caplog):
    path = save(tmp_path, dict(state_dict={**Net(5).state_dict(), 'other.weight': torch.ones(1)}))
    with caplog.at_level(logging.WARNING):
        run(tmp_path, path, Net(), train=True)
    said = (tmp_path / 'work').rglob('*.log').__next__().read_text()
    assert '5 entries' in said
    assert 'left out, of another shape: head (2)' in said
    assert 'left out, not of this network: other (1)' in said
    assert 'missing, and initialized: head.weight' in said
    with pytest.raises(IncompleteError):
        run(tmp_path, path, Net(), train=True, strict=True)


@pytest.mark.parametrize('train', [True, False], ids=['train', 'test'])
def test_a_file_without_any_of_the_weights(tmp_path, train):
    path = save(tmp_path, dict(state_dict={'a.b': torch.ones(1)}))
    with pytest.raises(CheckpointError, match='none of its parameters is one of the model, Net'):
        run(tmp_path, path, Net(), train)


def test_entries_are_counted_once(tmp_path):
    """mmengine is given the weights as `state_dict`, in place of where the file has them."""
    path = save(tmp_path, dict(a=dict(net=Net().state_dict(), step=torch.ones(1)), b=1))
    found = load_for_mmengine(str(path))
    assert found == dict(
        a=dict(net={}, step=torch.ones(1)), b=1, meta={}, state_dict=found['state_dict']
    )
    assert len(found['state_dict']) == 4


def test_a_run_with_averaged_weights_resumes():
    """Their state has an entry more than the model's, `steps`."""
    net = Net()
    averaged = {'steps': torch.ones(1), **{f'module.{k}': v for k, v in net.state_dict().items()}}
    checkpoint = dict(state_dict=net.state_dict(), ema_state_dict=averaged)
    check_same_network(net, checkpoint, 'here')
    with pytest.raises(WorkDirError, match='of another network'):
        check_same_network(Net(5), checkpoint, 'here')
