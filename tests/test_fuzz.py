"""Made-up files, many of them: a reader returns what is valid or says which file is not, and no more.

Of text and arrays real files are changed byte by byte, and odd ones are made from scratch; of formats that
a library reads, valid files of odd content are made. A process of its own reads them, with bounds on time
and memory, so that one that crashes is a finding like any other.

    MMDLA_FUZZ=3000 python -m pytest -m fuzz

reads as many files with each reader, others every time, and tells what became of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import select
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')
pytest.importorskip('scipy')
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.torch import save
from scipy.io import savemat

EXAMPLES = int(os.environ.get('MMDLA_FUZZ', '12'))
WORKER = Path(__file__).with_name('fuzz_worker.py')
SECONDS = 20
MEMORY = 512  # MiB above what the libraries take
pytestmark = [
    pytest.mark.fuzz,
    pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs Linux'),
]


# -- files ------------------------------------------------------------------------------------------

NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


@st.composite
def changed(draw, *seeds: bytes, seal: Callable[[bytes], bytes] | None = None) -> bytes:
    """One of the files with some bytes changed, and checksums made anew if ``seal`` does that."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(
            st.sampled_from(['flip', 'byte', 'cut', 'insert', 'drop', 'copy', 'number', 'splice'])
        )
        if kind == 'flip' and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 'byte' and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == 'cut':
            del data[at:]
        elif kind == 'insert':
            data[at:at] = draw(st.binary(max_size=40))
        elif kind == 'drop':
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == 'copy':
            start = draw(st.integers(0, len(data)))
            data[at:at] = data[start : start + draw(st.integers(1, 256))]
        elif kind == 'number':
            order = draw(st.sampled_from(['<I', '>I', '<H', '>H', '<Q', '>Q']))
            number = draw(st.sampled_from(NUMBERS)) % 2 ** (8 * struct.calcsize(order))
            data[at : at + struct.calcsize(order)] = struct.pack(order, number)
        elif kind == 'splice':
            other = draw(st.sampled_from(seeds))
            data[at:] = other[draw(st.integers(0, len(other))) :]
    return seal(bytes(data)) if seal else bytes(data)


def picture(kind: str, mode: str = 'RGB', size: tuple[int, int] = (24, 16), **options) -> bytes:
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(values[..., :3].copy()).convert('L').convert(mode)
    if mode in ('RGB', 'RGBA'):
        image = Image.fromarray(values[..., : len(mode)].copy())
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def mat(content: dict, compressed: bool = False) -> bytes:
    file = io.BytesIO()
    savemat(file, content, do_compression=compressed)
    return file.getvalue()


def truth(*values) -> dict:
    """What an annotation in a .mat file holds."""
    cells = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        cells[0, i] = dict(Boundaries=value)
    return dict(groundTruth=cells)


arrays = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
)


@st.composite
def odd_npy(draw) -> bytes:
    """Any array, or a header that claims anything."""
    file = io.BytesIO()
    if draw(st.booleans()):
        objects = st.just(np.array([[None, 1.0], ['a', ()]], object))
        np.save(file, draw(st.one_of(arrays, objects)), allow_pickle=True)
        return file.getvalue()
    lengths = st.one_of(st.sampled_from([-1, 0, 1, 2**31, 2**32, 2**62, 2**63, 10**30]), st.integers())
    shape = tuple(draw(st.lists(lengths, max_size=4)))
    types = ['<f8', '<f4', '|b1', '|O', '<U9999999', '|V2147483647', [('a', '<f8')], 'nothing', '']
    header = dict(descr=draw(st.sampled_from(types)), fortran_order=draw(st.booleans()), shape=shape)
    text = draw(st.sampled_from([repr(header), '(' * 900, "{'shape': ()}", '[' + '1,' * 4000])).encode()
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text + draw(st.binary(max_size=64))


def saved_npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@st.composite
def odd_mat(draw) -> bytes:
    """A .mat file of anything that SciPy writes."""
    fields = st.sampled_from(['Boundaries', 'Segmentation', 'a'])
    things = st.recursive(
        st.one_of(arrays.filter(lambda a: a.dtype.kind in 'biufcSU'), st.text(max_size=5), st.floats()),
        lambda inner: st.one_of(
            st.dictionaries(fields, inner, max_size=3),
            st.lists(inner, max_size=3).map(lambda items: truth(*items)['groundTruth']),
        ),
        max_leaves=6,
    )
    value = draw(
        st.one_of(things, st.lists(things, max_size=3).map(lambda v: truth(*v)['groundTruth']))
    )
    try:
        return mat({draw(st.sampled_from(['groundTruth', 'other'])): value}, draw(st.booleans()))
    except Exception:  # not everything can be written
        return b''


@st.composite
def odd_png(draw) -> bytes:
    sides = st.integers(1, 40)
    mode = draw(st.sampled_from(['L', '1', 'P', 'I;16', 'RGB', 'RGBA', 'LA']))
    return picture('PNG', mode, (draw(sides), draw(sides)))


# Of the names and ends of the released networks, so that converters have something to convert.
names = st.one_of(
    st.sampled_from([
        'base_layer.0.weight', 'level2.root.bn.weight', 'level3.tree1.tree1.conv1.weight', 'fc.weight',
        'fc.bias', 'base.base_layer.0.weight', 'fc.0.weight', 'fc.0.bias', 'dla_up.ida_0.proj_1.conv.weight',
        'ida_up.a', 'seg.weight', 'seg.bias', 'base.8.0.weight', 'base.0.0.weight', 'layer0.0.weight',
        'layer8.0.weight', 'conv1.weight', 'bn1.weight', 'layer4.0.conv1.weight', 'hm.2.bias',
        'level2.root.norm.weight', 'base.', 'module.fc.weight', 'state_dict', 'model', 'meta',
    ]),
    st.text(max_size=8),
)  # fmt: skip
tensors = st.one_of(
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3).flatmap(
        lambda shape: st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool]).map(
            lambda kind: torch.zeros(shape, dtype=kind)
        )
    ),
    st.just(torch.zeros(1).expand(2**20, 2**20)),
)


class Call:
    """What is a call when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@st.composite
def odd_checkpoint(draw, how: str) -> bytes:
    """Containers of anything, calls of what PyTorch lets be called among them."""
    calls = st.builds(
        Call,
        st.sampled_from(
            [bytearray, torch.Size, torch.Tensor, np.ndarray, np.dtype, set, os.mkdir, getattr]
        ),
        st.one_of(st.integers(-2, 2**40), st.text(max_size=4), st.just((2**20, 2**20))),
    )
    keys = st.one_of(names, names, st.integers(), st.booleans(), st.tuples(names, names))
    things = st.recursive(
        st.one_of(tensors, tensors, st.integers(), st.floats(), st.text(max_size=9), st.none(), calls),
        lambda inner: st.one_of(
            st.dictionaries(keys, inner, max_size=6), st.lists(inner, max_size=3), st.tuples(inner)
        ),
        max_leaves=9,
    )
    content = draw(st.one_of(things, st.dictionaries(names, st.one_of(tensors, things), max_size=9)))
    file = io.BytesIO()
    if how == 'pickle':
        return pickle.dumps(content, protocol=draw(st.integers(2, pickle.HIGHEST_PROTOCOL)))
    torch.save(content, file, _use_new_zipfile_serialization=how == 'zip')
    return file.getvalue()


def checkpoint(how: str) -> bytes:
    """A training checkpoint as mmengine writes it, in small."""
    from mmengine.logging import HistoryBuffer

    state = {name: torch.ones(2, 3) for name in ('base_layer.0.weight', 'level2.root.bn.weight')}
    state |= {'fc.weight': torch.ones(2, 3), 'fc.bias': torch.ones(2)}
    history = HistoryBuffer()
    history.update(1.0)
    content = dict(state_dict=state, meta=dict(iter=3, seed=2**31), message_hub=dict(loss=history))
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=how == 'zip')
    return file.getvalue()


@st.composite
def odd_safetensors(draw) -> bytes:
    kinds = st.sampled_from(['F32', 'F16', 'BF16', 'I64', 'BOOL', 'F8_E4M3', 'F4', 'OBJECT', '', None])
    lengths = st.one_of(st.integers(0, 4), st.sampled_from([-1, 2**31, 2**63, 2**64, 10**30]))
    entry = st.fixed_dictionaries(
        dict(
            dtype=kinds,
            shape=st.lists(lengths, max_size=3),
            data_offsets=st.lists(lengths, min_size=2, max_size=3),
        )
    )
    head = draw(st.dictionaries(names, st.one_of(entry, jsons), max_size=3))
    text = json.dumps(head).encode()
    length = draw(st.one_of(st.just(len(text)), st.sampled_from([*NUMBERS, 2**40, 2**63, 2**64 - 1])))
    return struct.pack('<Q', length) + text + draw(st.binary(max_size=64))


jsons = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.integers(),
        st.sampled_from([10**40, -1, 2**31, 2**63]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@st.composite
def odd_json(draw, content: object) -> bytes:
    """A valid file, some of whose values, at any depth, are others."""

    def replaced(value, often: int):
        if draw(st.integers(0, often)) == 0:
            return draw(jsons)
        if isinstance(value, dict):
            return {k: replaced(v, often) for k, v in value.items() if draw(st.integers(0, often))}
        if isinstance(value, list):
            return [replaced(v, often) for v in value for _ in range(draw(st.sampled_from([1, 1, 2])))]
        return value

    return json.dumps(replaced(content, draw(st.sampled_from([3, 9, 20])))).encode()


DETAIL = dict(
    images=[dict(image_id=0, file_name='a.jpg', phase='train', height=16, width=24)],
    annos_boundary=[dict(image_id=0, boundary_mask=dict(size=[16, 24], counts=[10, 20, 354]))],
)
TEXT_MASK = json.loads(json.dumps(DETAIL))
TEXT_MASK['annos_boundary'][0]['boundary_mask']['counts'] = ':d0R;'  # 10, 20, 354
BOXES = dict(
    boxes={f'train/{name}/{i}.png': [1, 2, 3, 4] for i, name in enumerate(['butterfly', 'fish'])}
)
BOX = '<object><name>a</name><bndbox>{}</bndbox></object>'
CORNERS = '<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax>'
XML = (
    '<annotation><size><width>24</width><height>16</height></size>'
    f'{BOX.format(CORNERS)}{BOX.format(CORNERS)}</annotation>'
).encode()
XMLS = [XML, XML.replace(b'>', b'>\n'), b'<?xml version="1.0" encoding="utf-16"?>' + XML]


@st.composite
def odd_xml(draw) -> bytes:
    tags = st.sampled_from(
        ['annotation', 'object', 'bndbox', 'xmin', 'ymin', 'xmax', 'ymax', 'name', 'size']
    )
    texts = st.sampled_from(
        ['1', '9', '-3', 'nan', 'inf', '1e99', '1_0', '٣', '&a;', 'n00000001', ' ', '']
    )
    things = st.recursive(
        texts,
        lambda inner: st.builds(
            lambda tag, parts: f'<{tag}>{"".join(parts)}</{tag}>', tags, st.lists(inner, max_size=4)
        ),
        max_leaves=12,
    )
    head = draw(st.sampled_from(['', '', '<!DOCTYPE a [<!ENTITY a "b">]>', '<?xml version="1.1"?>']))
    corners = [f'<{tag}>{draw(texts)}</{tag}>' for tag in ('xmin', 'ymin', 'xmax', 'ymax')]
    body = BOX.format(''.join(corners)) + draw(things)
    return f'{head}<annotation>{body}</annotation>'.encode()


@st.composite
def odd_lines(draw, *words: str) -> bytes:
    word = st.one_of(
        st.sampled_from([*words, 'nan', '-1', '1e99', '..', '/', '\0', '٣']), st.text(max_size=5)
    )
    lines = draw(st.lists(st.lists(word, max_size=6).map(' '.join), max_size=5))
    return '\n'.join(lines).encode('utf-8', 'surrogatepass')


@st.composite
def odd_list(draw, *words: str) -> bytes:
    """A list of files, most of which are there."""
    word = st.sampled_from([*words, *words, *words, './' + words[0], 'absent', '..', '/', ' ', ''])
    end = draw(st.sampled_from(['\n', '\n', '\r\n', '\r', ' ', '\x0b', '\x85', '\u2028', '\0']))
    return end.join(draw(st.lists(word, max_size=4))).encode()


@dataclass
class Reader:
    """A reader, as fuzz_worker.py calls it, and the files to have it read.

    Attributes:
        worker (str): Its name there.
        file (str): Name of the file.
        files (SearchStrategy): What it holds.
        beside (dict): What lies beside it, by path.
    """

    worker: str
    file: str
    files: st.SearchStrategy
    beside: dict[str, bytes]


def readers() -> dict[str, Reader]:
    found = {}

    def add(name: str, worker: str, file: str, *files: st.SearchStrategy, **beside: bytes) -> None:
        beside = {k.replace('__', '/').replace('_', '.', 1): v for k, v in beside.items()}
        found[name] = Reader(worker, file, st.one_of(*files), beside)

    whole = [checkpoint(how) for how in ('zip', 'legacy')]
    add('checkpoint, zip', 'checkpoint', 'in.pth', changed(whole[0], whole[0]), odd_checkpoint('zip'))
    add(
        'checkpoint, pickles', 'checkpoint', 'in.pth',
        changed(whole[1], pickle.dumps(dict(a=1), 2)), odd_checkpoint('legacy'), odd_checkpoint('pickle'),
    )  # fmt: skip
    state = {name: torch.ones(2, 3) for name in ('base_layer.0.weight', 'level2.root.bn.weight')}
    add(
        'checkpoint, safetensors',
        'checkpoint',
        'in.safetensors',
        changed(save(state)),
        odd_safetensors(),
    )
    add('annotation, .mat', 'annotations', 'in.mat', odd_mat())
    add('annotation, PNG', 'annotations', 'in.png', odd_png())
    add('boundary map, PNG', 'boundary_map', 'in.png', odd_png())
    maps = [saved_npy(np.full((16, 24), 0.5, kind)) for kind in (np.float64, np.float16, bool)]
    add('boundary map, .npy', 'boundary_map', 'in.npy', changed(*maps), odd_npy())
    add(
        'boxes of ImageNet, XML',
        'imagenet',
        'in.xml',
        changed(*XMLS),
        odd_xml(),
        val__a__in_png=picture('PNG'),
    )
    lines = dict(images_txt=b'1 1.jpg\n2 2.jpg', image_class_labels_txt=b'1 1\n2 1')
    add(
        'boxes of CUB', 'cub', 'bounding_boxes.txt', changed(b'1 1.0 2.0 3.0 4.0\n2 0 0 5 5\n'),
        odd_lines('1', '2', '3.5'),
    )  # fmt: skip
    found['boxes of CUB'].beside |= {
        'images.txt': lines['images_txt'],
        'image_class_labels.txt': lines['image_class_labels_txt'],
        'train_test_split.txt': b'1 1\n2 1',
        'images/1.jpg': b'',
    }
    add(
        'lists of boundaries', 'lists', 'train_images.txt',
        changed(b'a.jpg\nb.jpg\n'), odd_lines('a.jpg', 'b.jpg'),
        odd_list('a.jpg', 'b.jpg'),
    )  # fmt: skip
    found['lists of boundaries'].beside |= {
        'train_labels.txt': b'a.png\nb.png\n', **dict.fromkeys(['a.jpg', 'b.jpg', 'a.png', 'b.png'], b'')
    }  # fmt: skip
    add(
        'boxes of generated pictures', 'generated', 'boxes.json',
        changed(json.dumps(BOXES).encode()), odd_json(BOXES),
    )  # fmt: skip
    add(
        'converter of PASCAL in Detail', 'pascal_boundaries', 'in.json',
        changed(*(json.dumps(d).encode() for d in (DETAIL, TEXT_MASK))), odd_json(DETAIL),
        odd_json(TEXT_MASK), a_jpg=picture('JPEG'),
    )  # fmt: skip
    return found


READERS = readers()


# -- reading ----------------------------------------------------------------------------------------


class Worker:
    """The process that reads; another takes its place when it has ended."""

    def __init__(self):
        self.process: subprocess.Popen | None = None
        self.least = 0.0

    def read(self, reader: str, path: Path) -> dict:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, '-W', 'ignore', str(WORKER)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1',
                     'PYTHONPATH': str(WORKER.parents[1])},
            )  # fmt: skip
            self.least = json.loads(self._line(120))['ready']
        self.process.stdin.write(json.dumps(dict(reader=reader, path=str(path))) + '\n')
        self.process.stdin.flush()
        line = self._line(SECONDS)
        if not line:
            self.process.kill()
            status = self.process.wait()
            self.process = None
            return dict(what=f'the process ended with {status}, or took more than {SECONDS} s')
        found = json.loads(line)
        if found['peak'] > self.least + MEMORY:
            found['what'] = f'{found["peak"] - self.least:.0f} MiB of memory'
            self.close()
        return found

    def _line(self, seconds: float) -> str:
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline() if ready else ''

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope='module')
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture(scope='module')
def counts(request) -> Iterator[dict[str, Counter]]:
    """What became of the files, told in the end if they were many."""
    counts: dict[str, Counter] = {}
    yield counts
    if EXAMPLES >= 100:
        with request.config.pluginmanager.getplugin('capturemanager').global_and_fixture_disabled():
            print('\n| Reader | Distinct files | Read | Refused |\n|---|---|---|---|')
            for name, c in counts.items():
                print(f'| {name} | {c.total():,} | {c["accepted"]:,} | {c["refused"]:,} |')


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('name', READERS)
def test_reader(name, worker, counts, tmp_path):
    reader = READERS[name]
    for path, content in reader.beside.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    path = tmp_path / reader.file
    seen: set[bytes] = set()
    counts[name] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 100,
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.files)
    def reads(content: bytes) -> None:
        path.write_bytes(content)
        found = worker.read(reader.worker, path)
        out = tmp_path / 'out'
        if out.exists():
            shutil.rmtree(out)
        assert found['what'] in ('accepted', 'refused'), found['what']
        assert contents(tmp_path) == {reader.file: content, **reader.beside}
        digest = hashlib.sha256(content).digest()
        if digest not in seen:
            seen.add(digest)
            counts[name][found['what']] += 1

    reads()
    assert counts[name]['refused']
