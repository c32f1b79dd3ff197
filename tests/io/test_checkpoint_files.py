"""Checkpoint files are read by PyTorch and safetensors, and run no code."""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import decimal
import enum
import functools
import io
import os
import pathlib
import pickle
import random
import struct
import tarfile
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sha256
from safetensors.torch import save_file
from torch import nn

from mmdla.io.checkpoint_files import CheckpointError, load_for_mmengine, read_checkpoint
from mmdla.io.plain_pickles import Placeholder
from mmdla.models import DLA


def released(arch: str = '46_c') -> dict[str, torch.Tensor]:
    return DLA(arch).state_dict()


def same(model: nn.Module, state: dict) -> bool:
    own = model.state_dict()
    return all(torch.equal(v, own[k]) for k, v in state.items())


def pretrained(path, arch: str = '46_c') -> DLA:
    model = DLA(arch, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    model.init_weights()
    return model


# -- what plain data is ---------------------------------------------------------------------------


def histories() -> dict:
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer()
    for i in range(100):
        history.update(i)
    return dict(history=history, config=ConfigDict(a=dict(b=1)))


def weights() -> dict:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    net[0].weight.note = 1
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.rand(1, 3, 2, 2)).sum().backward()
    optimizer.step()
    return dict(
        state_dict=net.state_dict(), optimizer=optimizer.state_dict(), shared=[net[0].weight] * 2
    )


DTYPES = ['f2', 'f4', 'f8', 'g', 'i1', 'i2', 'u4', 'u8', '?', 'c8', 'c16', 'S5', 'U7', 'V3', 'M8[ns]',
          'm8[s]', 'O', [('a', 'f4'), ('b', '>i8', (2,)), ('c', 'O')]]  # fmt: skip
PLAIN = dict(
    weights=weights,
    mmengine=histories,
    arrays=lambda: [np.zeros(3, dtype) for dtype in DTYPES],
    scalars=lambda: [np.zeros(1, dtype)[0] for dtype in DTYPES],
    dtypes=lambda: [np.dtype(dtype) for dtype in [*DTYPES, '>f8']] + [np.float32],
    objects=lambda: [np.array(['a', None, dict(b=1)], object), np.array([], 'U')],
    random_states=lambda: [random.getstate(), np.random.get_state(), torch.get_rng_state()],  # noqa: NPY002
    arguments=lambda: argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath('a/b'), gpus=[0]),
    paths=lambda: [Path('a/b'), pathlib.PureWindowsPath('c:/a')],
    times=lambda: [datetime.datetime(2024, 2, 29, 1, tzinfo=datetime.timezone.utc),
                   datetime.date(2024, 2, 29), datetime.timedelta(1), datetime.time(1, 2)],
    containers=lambda: [collections.defaultdict(list, a=[1]), collections.OrderedDict(a=1),
                        collections.Counter('aab'), collections.deque([1]), {1, 2}, frozenset([3]),
                        slice(1, 2), 1j, range(3), b'\xff\x00', bytearray(b'a'), Ellipsis, 2**100],
    numbers=lambda: [decimal.Decimal('1.5'), uuid.UUID(int=5)],
    torch=lambda: [torch.Size([1, 2]), torch.device('cpu'), torch.bfloat16, torch.sparse_coo,
                   torch.eye(3).to_sparse(), nn.Parameter(torch.ones(2)), torch.ones(2).bfloat16(),
                   torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.quint8)],
)  # fmt: skip


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor) and a.is_quantized:
        return torch.equal(a.int_repr(), b.int_repr())
    if isinstance(a, torch.Tensor):
        return type(a) is type(b) and a.dtype == b.dtype and torch.equal(a.to_dense(), b.to_dense())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and str(a.tolist()) == str(b.tolist())
    if type(a).__name__ == 'HistoryBuffer':
        return (a.mean(), a.statistics('max')) == (b.mean(), b.statistics('max'))
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and bool(np.all(a == b))


@pytest.mark.parametrize('form', ['zip', 'legacy'])
@pytest.mark.parametrize('protocol', [2, 4, 5])
@pytest.mark.parametrize('kind', PLAIN)
@pytest.mark.filterwarnings('ignore')
def test_plain_data_is_read(kind, protocol, form, tmp_path):
    content = dict(x=PLAIN[kind]())
    path = tmp_path / 'a.pth'
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == 'zip')
    assert equal(content, read_checkpoint(path, plain_only=True))


def test_reading_is_allowed_where_pytorch_allows_only_weights(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    torch.save(dict(x=np.float64(3), y=argparse.Namespace(a=1)), tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth')['y'].a == 1
    assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'


def test_text_of_python_2(tmp_path):
    """Its arrays are text with bytes above 127."""
    raw = np.arange(200, 204, dtype=np.uint8).tobytes()
    array = b"(cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I4\nt"
    array = (
        array[1:] + b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nU\x04" + raw
    )
    path = tmp_path / 'a.pth'
    head = [
        torch.serialization.MAGIC_NUMBER,
        torch.serialization.PROTOCOL_VERSION,
        dict(little_endian=True),
    ]
    path.write_bytes(
        b''.join(pickle.dumps(h, 2) for h in head) + b"(dS'x'\n" + array + b'tbs.' + pickle.dumps([], 2)
    )
    assert read_checkpoint(path)['x'].tolist() == [200, 201, 202, 203]


def test_tar_files_of_the_first_releases(tmp_path):
    values = np.arange(6, dtype=np.float32)
    storage = pickle.dumps(1, 2) + pickle.dumps((0, 'cpu', torch.FloatStorage), 2)
    storage += struct.pack('<q', 6) + values.tobytes()
    tensor = pickle.dumps(1, 2) + pickle.dumps((1, 0, torch.FloatTensor), 2)
    tensor += struct.pack('<iiqqqqq', 2, 0, 2, 3, 3, 1, 0)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return '1' if value == 'tensor' else None

    held = io.BytesIO()
    Pickler(held, 2).dump(dict(a='tensor'))
    parts = dict(sys_info=pickle.dumps({}, 2), storages=storage + pickle.dumps([], 2), tensors=tensor)
    path = tmp_path / 'a.pth'
    with tarfile.open(path, 'w') as tar:
        for name, data in dict(parts, pickle=held.getvalue()).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert torch.equal(read_checkpoint(path)['a'], torch.arange(6.0).view(2, 3))


# -- what is not ----------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


class Record:
    def __init__(self):
        self.__dict__ = dict(lr=0.1, color=Color.RED)


class Items(dict):
    pass


class Lines(list):
    pass


class Names(set):
    pass


class Slots:
    __slots__ = ('a',)


def foreign(protocol: int) -> dict:
    slots = Slots()
    slots.a = 1
    return dict(
        record=Record(),
        members={Color.RED: 1},
        items=Items(a=torch.ones(2)),
        lines=Lines([1, 2]),
        names=Names([1]),
        function=equal,
        kind=Record,
        part=functools.partial(equal, 1),
        error=KeyError('a'),
        **(dict(slots=slots) if protocol > 1 else {}),
    )


@pytest.mark.parametrize('form', ['zip', 'legacy'])
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_foreign_objects_become_placeholders(form, protocol, tmp_path):
    path = tmp_path / 'a.pth'
    content = dict(foreign(protocol), state_dict=dict(a=torch.ones(2)))
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == 'zip')
    found = read_checkpoint(path)
    assert torch.equal(found.pop('state_dict')['a'], torch.ones(2))
    for name, value in found.items():
        if name == 'members':
            ((value, one),) = value.items()
            assert one == 1
        kind = value if isinstance(value, type) else type(value)
        assert issubclass(kind, Placeholder), name
        assert kind.name
    assert found['record'].name.endswith('.Record')
    assert 'Record' in repr(found['record'])
    assert torch.equal(found['items']['a'], torch.ones(2)), 'items of a mapping are kept'
    with pytest.raises(
        CheckpointError, match=r'a\.pth.*holds an object of \S+, which is not plain data'
    ) as e:
        read_checkpoint(path, plain_only=True)
    assert 'could run code' in str(e.value)
    assert 'torch.save(dict(state_dict=' in str(e.value)


class Call:
    """What is a call when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call

    def __call__(self):
        """So that it may be what is called."""


def calls(target: str) -> dict:
    code = f'open({target!r}, "w")'
    return dict(
        system=Call(os.system, f'touch {target}'),
        mkdir=Call(os.mkdir, target),
        open=Call(open, target, 'w'),
        eval=Call(eval, code),
        exec=Call(exec, code),
        importing=Call(__import__, 'antigravity'),
        method=Call(Call(getattr, Path, 'touch'), Path(target)),
        method_of_array=Call(Call(getattr, np.ndarray, 'tofile'), np.zeros(1), target),
        methods=Call(Call(getattr, Call(getattr, Call, '__init__'), '__globals__'), 'os'),
        history=Call(Call(getattr, PLAIN['mmengine']()['history'].__class__, '__init__'), 1),
        save=Call(torch.save, 1, target),
        load=Call(torch.load, target),
        from_file=Call(torch.from_file, target, True, 4),
        storage=Call(torch.UntypedStorage.from_file, target, True, 4),
        numpy=Call(np.save, target, 1),
        memmap=Call(np.memmap, target, 'u1', 'w+', 0, 4),
        partial=Call(functools.partial(os.mkdir, target)),
        mapped=Call(list, Call(map, os.mkdir, [target])),
        factory=collections.defaultdict(functools.partial(os.mkdir, target)),
    )


@pytest.mark.parametrize('call', calls(''))
@pytest.mark.parametrize('form', ['zip2', 'zip4', 'legacy2', 'legacy4', 'bare', 'tar', 'nested'])
def test_nothing_is_run(form, call, tmp_path):
    target = tmp_path / 'exploded'
    content = dict(state_dict=dict(a=torch.zeros(1)), meta=calls(str(target))[call])
    path = tmp_path / 'a.pth'
    if form == 'bare':
        path.write_bytes(pickle.dumps(content, 2))
    elif form == 'tar':
        with tarfile.open(path, 'w') as tar:
            for name in ('storages', 'tensors', 'pickle'):
                data = pickle.dumps(content, 2)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        if form == 'nested':  # a storage pickled by itself is a file in a file
            inner = io.BytesIO()
            torch.save(content, inner)
            content = dict(a=Call(torch.storage._load_from_bytes, inner.getvalue()))
        protocol = int(form[-1]) if form[-1].isdecimal() else 2
        torch.save(
            content, path, pickle_protocol=protocol, _use_new_zipfile_serialization='zip' in form
        )
    readable = form not in ('bare', 'tar', 'nested')
    if readable:
        found = read_checkpoint(path)['meta']
        assert isinstance(found, collections.defaultdict if call == 'factory' else Placeholder | list)
    else:
        with contextlib.suppress(CheckpointError):
            read_checkpoint(path)
    with pytest.raises(CheckpointError, match='could run code' if readable else None):
        read_checkpoint(path, plain_only=True)
    assert os.listdir(tmp_path) == ['a.pth']


def test_torchscript_is_not_run(tmp_path):
    torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)).save(str(tmp_path / 'a.pt'))
    with pytest.raises(
        CheckpointError, match=r'a\.pt.*a TorchScript archive, a program; save the state_dict'
    ):
        read_checkpoint(tmp_path / 'a.pt')


def _push(function) -> bytes:
    return f'c{function.__module__}\n{function.__name__}\n'.encode()


def test_arrays_do_not_take_numbers_for_objects(tmp_path):
    """NumPy believes a pickled dtype that says where it holds objects."""

    class Dtype:
        def __init__(self, spec, state):
            self.spec, self.state = spec, state

        def __reduce__(self):
            return np.dtype, (self.spec, False, True), self.state

    class Array:
        def __init__(self, dtype, raw):
            self.dtype, self.raw = dtype, raw

        def __reduce__(self):
            state = (1, (1,), self.dtype, False, self.raw)
            return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b'b'), state

    plain = (3, '|', None, None, None, -1, -1, 0)
    fields = (3, '|', None, ('a',), {'a': (np.dtype('O'), 0)}, 8, 1, 0)
    for dtype in (Dtype('O', plain), Dtype('V8', fields), Dtype('f8', fields)):
        torch.save(dict(x=Array(dtype, bytes(range(8)))), tmp_path / 'a.pth')
        try:
            found = read_checkpoint(tmp_path / 'a.pth')['x']
        except CheckpointError:
            continue
        assert not found.dtype.hasobject
    # An instruction that changes a dtype after an array was made with it.
    late = (
        b'\x80\x02}X\x01\x00\x00\x00x'
        + _push(np.zeros(0).__reduce__()[0])
        + b'cnumpy\nndarray\nK\x00\x85'
        b'X\x01\x00\x00\x00b\x87R(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00V8\x89\x88\x87Rq\x00'
        b'\x89'
        + pickle.dumps(bytes(range(8)), 2)[2:-1]
        .replace(b'q\x00', b'')
        .replace(b'q\x01', b'')
        .replace(b'q\x02', b'')
        .replace(b'q\x03', b'')
        .replace(b'q\x04', b'')
        + b'tbs'
        b'X\x01\x00\x00\x00yh\x00(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00a\x85}X\x01\x00\x00\x00a'
        b'cnumpy\ndtype\nX\x01\x00\x00\x00O\x89\x88\x87RK\x00\x86sK\x08K\x01K?tbs.'
    )
    head = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}]
    (tmp_path / 'a.pth').write_bytes(
        b''.join(pickle.dumps(h, 2) for h in head) + late + pickle.dumps([], 2)
    )
    found = read_checkpoint(tmp_path / 'a.pth')
    assert found['y'].hasobject
    assert not found['x'].dtype.hasobject
    assert found['x'].tobytes() == bytes(range(8))


# -- what is no checkpoint ------------------------------------------------------------------------


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / f'{kind}.pth'
    whole = folder / 'whole.pth'
    torch.save(released(), whole)
    if kind == 'web page':
        path.write_text('<!DOCTYPE html>\n<html><body>404 Not Found</body></html>')
    elif kind == 'truncated':
        path.write_bytes(whole.read_bytes()[:50_000])
    elif kind == 'truncated legacy':
        torch.save(released(), whole, _use_new_zipfile_serialization=False)
        path.write_bytes(whole.read_bytes()[:50_000])
    elif kind == 'truncated safetensors':
        path = folder / 'short.safetensors'
        save_file(released(), path)
        path.write_bytes(path.read_bytes()[:50_000])
    elif kind == 'empty':
        path.touch()
    elif kind == 'text':
        path.write_text('weights, soon')
    elif kind == 'bare pickle':
        path.write_bytes(pickle.dumps(dict(a=1), 2))
    elif kind == 'module':
        torch.save(nn.Linear(2, 2), path)
    elif kind == 'tensor':
        torch.save(torch.ones(2), path)
    return path


BAD = {
    'web page': 'this is a web page',
    'truncated': 'PyTorch cannot read it: ',
    'truncated legacy': 'PyTorch cannot read it: ',
    'truncated safetensors': 'safetensors cannot read it: ',
    'empty': 'the file is empty',
    'text': 'PyTorch cannot read it: invalid pickle',
    'bare pickle': 'PyTorch cannot read it: ',
    'module': r'holds an object of torch\.nn\.modules\.linear\.Linear, not weights; .*state_dict\(\), NEW',
    'tensor': r'holds Tensor, not a mapping of names to tensors',
}


@pytest.mark.parametrize('kind', BAD)
@pytest.mark.filterwarnings('ignore')
def test_what_is_no_checkpoint_is_refused(kind, tmp_path):
    path = bad_file(kind, tmp_path)
    with pytest.raises(CheckpointError, match=rf'{path.name}.*{BAD[kind]}'):
        read_checkpoint(path)


def test_safetensors_with_impossible_headers(tmp_path):
    path = tmp_path / 'a.safetensors'
    for length in (2**62, 2**31, 2**20):
        path.write_bytes(struct.pack('<Q', length) + b'{}')
        with pytest.raises(CheckpointError, match=r'a\.safetensors.*safetensors cannot read it'):
            read_checkpoint(path)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.pth': there is no such file"):
        read_checkpoint('nowhere.pth')


# -- for mmengine ---------------------------------------------------------------------------------


@pytest.mark.parametrize('key', ['state_dict', 'model', None])
def test_whole_content_for_mmengine(key, tmp_path):
    state = {'a.weight': torch.ones(2), 'b.weight': torch.zeros(1)}
    content = {key: state} if key else dict(state)
    content |= dict(meta=dict(config='raise SystemExit', seed=3), epoch=7, other=Record())
    torch.save(content, tmp_path / 'a.pth')
    found = load_for_mmengine(str(tmp_path / 'a.pth'))
    assert equal(dict(found['state_dict']), state)
    assert found['meta'] == dict(seed=3)
    assert found['epoch'] == 7
    assert isinstance(found['other'], Placeholder)


# -- addresses ------------------------------------------------------------------------------------


def cached(tmp_path) -> list[str]:
    """What lies in the cache, locks aside."""
    return [p.name for p in (tmp_path / 'cache').rglob('*') if p.is_file() and p.suffix != '.lock']


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_good_file_is_kept(server, tmp_path, suffix):
    state = released()
    file = server.folder / f'good{suffix}'
    save_file(state, file) if suffix == '.safetensors' else torch.save(state, file)
    url = f'{server.address}/{file.name}'
    assert same(pretrained(f'{url}#sha256={sha256(file)}'), state)
    file.unlink()
    assert same(pretrained(url), state), 'not kept'
    (name,) = cached(tmp_path)
    assert name.endswith(f'-{file.name}')
    with pytest.raises(CheckpointError, match=f'stored as .*{name}; delete it to download it again'):
        pretrained(f'{url}#sha256={"0" * 64}')


REFUSED = {
    'page': 'this is a web page',
    'missing': 'could not be downloaded .the server answers 404',
    'short': r'truncated, 50,000 of [\d,]+ bytes arrived',
    'cut before': '(PyTorch|safetensors) cannot read it',
    'fragment': 'its SHA-256 is [0-9a-f]{64}, not 0{64} as announced',
    'name': 'its SHA-256 is [0-9a-f]{8}, not ba72cf86 as announced',
    'hub': 'its SHA-256 is [0-9a-f]{64}, not 0{64} as announced',
}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('kind', REFUSED)
def test_a_bad_file_is_refused_and_not_kept(server, tmp_path, kind, suffix):
    name = 'dla46_c-ba72cf86' if kind == 'name' else 'weights'
    file = server.folder / f'{name}{suffix}'
    save = save_file if suffix == '.safetensors' else torch.save
    if kind == 'page':
        file.write_text('<!doctype html><title>404</title>')
    elif kind != 'missing':
        save(released(), file)
    if kind == 'cut before':
        file.write_bytes(file.read_bytes()[:50_000])
    if kind == 'short':
        server.hub.cut.add(file.name)
    if kind == 'hub':
        server.hub.hashes[file.name] = '0' * 64
    folder = '/timm/dla46_c.in1k/resolve/main' if kind == 'hub' else ''
    end = f'#sha256={"0" * 64}' if kind == 'fragment' else ''
    with pytest.raises(CheckpointError, match=REFUSED[kind]):
        pretrained(f'{server.address}{folder}/{file.name}{end}')
    assert cached(tmp_path) == []
    server.hub.cut.clear()
    save(released(), file)
    server.hub.hashes.clear()
    if kind != 'name':
        pretrained(f'{server.address}{folder}/{file.name}')
        assert len(cached(tmp_path)) == 1, 'what failed once fails for ever'


def test_no_network_is_said(server):
    server.close()
    with pytest.raises(CheckpointError, match=r'no connection to 127.*if you have the file, give its'):
        read_checkpoint(f'{server.address}/a.pth')


@pytest.mark.parametrize(
    'end', ['sha256=ba72', 'sha256=', 'sha265=ba72cf86', 'sha256:ba72cf86', 'SHA256=ba72cf86']
)
def test_hashes_are_checked_for_form(tmp_path, end):
    torch.save(released(), tmp_path / 'a.pth')
    for source in ('http://127.0.0.1/a.pth', (tmp_path / 'a.pth').as_uri()):
        with pytest.raises(ValueError, match='must be sha256= and 8 to 64 hexadecimal digits'):
            read_checkpoint(f'{source}#{end}')


def test_hash_of_a_file_here(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(x=torch.zeros(1)), path)
    read_checkpoint(f'{path.as_uri()}#sha256={sha256(path)}')
    with pytest.raises(CheckpointError, match='not 00000000 as announced'):
        read_checkpoint(f'{path.as_uri()}#sha256=00000000')


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    torch.save(released(), server.folder / 'a.pth')
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'file'))
    with pytest.raises(
        CheckpointError, match=r'could not be stored in .*set TORCH_HOME to another folder'
    ):
        read_checkpoint(f'{server.address}/a.pth')


def test_what_is_kept_needs_no_lock(server, tmp_path, monkeypatch):
    """A cache that others filled may not be one's own to write."""
    import filelock

    torch.save(released(), server.folder / 'a.pth')
    read_checkpoint(f'{server.address}/a.pth')
    monkeypatch.setattr(filelock.FileLock, 'acquire', lambda *_: pytest.fail('locked'))
    read_checkpoint(f'{server.address}/a.pth')


def test_a_date_is_no_hash(server):
    torch.save(released(), server.folder / 'weights-20261122.pth')
    pretrained(f'{server.address}/weights-20261122.pth')


def test_addresses_that_end_alike_are_told_apart(server):
    folder, address = server.folder, server.address
    for name in ('a', 'b'):
        (folder / name).mkdir()
        torch.save(dict(x=torch.tensor(ord(name))), folder / name / 'model.pth')
        assert read_checkpoint(f'{address}/{name}/model.pth')['x'] == ord(name)
        assert read_checkpoint((folder / name / 'model.pth').as_uri())['x'] == ord(name)
    torch.save(dict(x=torch.tensor(0)), folder / 'a/model.pth')
    assert read_checkpoint((folder / 'a/model.pth').as_uri())['x'] == 0, 'a local file was cached'


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_mmengine_takes_published_files_from_here(server, name):
    """`load_from` and `init_cfg` of any model go through mmengine, which comes to this package."""
    from mmengine.runner import load_checkpoint

    state = released()
    file = server.folder / name
    save_file(state, file) if name.endswith('safetensors') else torch.save(state, file)
    model = DLA('46_c')
    load_checkpoint(model, f'https://huggingface.co/timm/dla46_c.in1k/resolve/main/{name}')
    assert same(model, state)
    if name.endswith('safetensors'):
        model = DLA('46_c')
        load_checkpoint(model, str(file))
        assert same(model, state)
