"""Every released checkpoint format, read and converted in one place.

Knows names of files, keys and formats, and no network. Nothing is unpickled but tensors, numbers,
strings and containers of these.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag, urlparse
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

import torch
from torch import Tensor, nn

from .utils.pickles import PickleSizeError, check_pickle

# Under which prefixes a network's parameters stand in released files: alone, behind DataParallel,
# in OpenMMLab models, in the authors' DLASeg.
PREFIXES = ('', 'module.', 'backbone.', 'base.', 'module.backbone.', 'module.base.')


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be used; the message says what it is."""


def read_checkpoint(source: str | os.PathLike, map_location: str = 'cpu') -> dict:
    """Read a checkpoint, whatever its format, as its file holds it.

    Args:
        source (str | PathLike): A path, or an ``http(s)://`` or ``file://`` address, of a pickle
            (``.pth``, ``.bin``) or a safetensors file. Downloads are kept in PyTorch's hub folder,
            once they are whole: of the announced length, readable, and of the SHA-256 that the
            address ends in (``#sha256=...``), that the file's name carries (``dla34-ba72cf86.pth``)
            or that the Hugging Face hub announces. ``HF_ENDPOINT`` names a mirror of the hub.
        map_location (str): Device of the tensors. Default: ``'cpu'``.

    Returns:
        dict: The state dict, or what holds it.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is truncated, a web page, holds other than plain data, cannot be
            downloaded or kept, is not what its hash says, or is no checkpoint at all.
        ValueError: If what follows ``#`` in an address is no hash.
    """
    source = os.fspath(source)
    if re.match(r'https?://', source):
        path = _download(source)
    elif source.startswith('file://'):
        url, fragment = urldefrag(source)
        path = Path(url2pathname(urlparse(url).path))
        if path.is_file():
            _check_hash(path, _wanted_hash(source, fragment), str(path))
    else:
        path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {str(path)!r}: there is no such file')
    return _read_file(path, map_location)


HUB = 'https://huggingface.co'


def _download(address: str) -> Path:
    """Fetch a file once, however many processes ask, and return where it lies."""
    from filelock import FileLock

    url, fragment = urldefrag(address)
    folder = Path(torch.hub.get_dir()) / 'checkpoints' / 'mmdla'
    # Files of many models share a name (`model.safetensors`): the whole address tells them apart.
    name = Path(urlparse(url).path).name or 'checkpoint'
    path = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}'
    wanted = _wanted_hash(address, fragment) or _hash_in_name(name)
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f'{path}.lock'):
                if not path.exists():
                    _fetch(url, path, wanted)
                    return path
        except OSError as error:
            raise CheckpointError(
                f'checkpoint {url!r}: could not be kept in {folder} ({error.strerror or error}); '
                'TORCH_HOME names another folder'
            ) from error
    _check_hash(path, wanted, f'{url} (kept as {path}; delete it to fetch it again)')
    return path


def _fetch(url: str, path: Path, wanted: str | None) -> None:
    """Download a file; it comes to be under its name once it is whole."""
    if url.startswith(f'{HUB}/'):
        url = (os.environ.get('HF_ENDPOINT') or HUB).rstrip('/') + url.removeprefix(HUB)
    part = path.with_name(f'{path.name}.part')
    try:
        size, announced = _announced(url)
        torch.hub.download_url_to_file(url, str(part), progress=True)
        found = part.stat().st_size
        if size is not None and found < size:
            raise CheckpointError(
                f'checkpoint {url!r}: truncated, {found:,} of {size:,} bytes arrived; try again'
            )
        _read_file(part, 'meta', name=url)
        _check_hash(part, wanted or announced, url)
        os.replace(part, path)
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        reason = f'no connection to {urlparse(url).netloc}: {getattr(error, "reason", error)}'
        if isinstance(error, HTTPError):
            reason = f'the server answers {error.code} {error.reason}'
        raise CheckpointError(
            f'checkpoint {url!r}: could not be downloaded ({reason}); with the file at hand, give its '
            'path instead'
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _wanted_hash(address: str, fragment: str) -> str | None:
    """The SHA-256, or its start, that an address ends in; None if it ends in nothing."""
    if not fragment:
        return None
    found = re.fullmatch(r'sha256=([0-9a-fA-F]{8,64})', fragment)
    if not found:
        raise ValueError(
            f'checkpoint {address!r}: what follows # must be sha256= and 8 to 64 hexadecimal digits'
        )
    return found[1].lower()


def _hash_in_name(name: str) -> str | None:
    """The start of the SHA-256 in a file's name: PyTorch's convention, the authors' and OpenMMLab's."""
    found = re.search(r'-([0-9a-f]{8,64})\.\w+$', name)
    # Digits alone may be a date.
    return found[1] if found and not found[1].isdecimal() else None


def _announced(url: str) -> tuple[int | None, str | None]:
    """Bytes and SHA-256 of a file, as far as its server tells before sending it.

    The Hugging Face hub tells both of the file that it redirects to.
    """
    headers: dict[str, str] = {}

    class Listener(HTTPRedirectHandler):
        def redirect_request(self, req, fp, code, msg, answer, newurl):
            headers.update({k.lower(): v for k, v in answer.items()})
            request = super().redirect_request(req, fp, code, msg, answer, newurl)
            if request is not None:
                request.method = 'HEAD'
            return request

    try:
        with build_opener(Listener).open(Request(url, method='HEAD'), timeout=60) as response:
            size = response.headers.get('Content-Length')
            headers.update({k.lower(): v for k, v in response.headers.items() if k[:2] == 'X-'})
    except HTTPError:  # not every server answers HEAD
        size = None
    size = headers.get('x-linked-size', size) or ''
    found = re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get('x-linked-etag', ''))
    return int(size) if size.isdecimal() else None, found and found[1]


def _check_hash(path: Path, wanted: str | None, name: str) -> None:
    if wanted is None:
        return
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    found = digest.hexdigest()
    if not found.startswith(wanted):
        raise CheckpointError(
            f'checkpoint {name!r}: its SHA-256 is {found[: len(wanted)]}, not {wanted} as announced: '
            'damaged on the way, or another file'
        )


# Addresses that mmengine leaves to this module: what its own loaders cannot read, and the published
# files, on the hub or a mirror of it.
SCHEMES = (
    r'.*\.safetensors([?#].*)?$',
    r'https?://.*\.safetensors([?#].*)?$',
    r'https?://.*/timm/dla[^/]*\.in1k/',
)


def load_from_mmdla(filename: str, map_location: str | torch.device | None = None) -> dict:
    """mmengine's way to :func:`read_checkpoint`, for what :data:`SCHEMES` match.

    ``load_from``, ``init_cfg`` and ``mmpretrain.get_model`` come here by themselves.

    Args:
        filename (str): Path or address.
        map_location (str | torch.device, optional): Device of the tensors. Default: the CPU.

    Returns:
        dict: ``state_dict``, and ``meta`` as far as the file holds any.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: See :func:`read_checkpoint`.
    """
    # Functions that map a storage, which PyTorch takes too, leave it on the CPU.
    device = isinstance(map_location, str | torch.device)
    content = read_checkpoint(filename, str(map_location) if device else 'cpu')
    state_dict = state_dict_of(content, f'checkpoint {filename!r}')
    return dict(meta=content.get('meta', {}), state_dict=state_dict)


def extend_mmengine() -> None:
    """Have mmengine load what it cannot read by itself.

    Safetensors and the published files, by :func:`load_from_mmdla` (mmengine matches schemes as
    patterns, the specific first); its own training checkpoints, see :func:`allow_plain_classes`.
    """
    from mmengine.runner import CheckpointLoader

    allow_plain_classes()

    CheckpointLoader.register_scheme(SCHEMES, load_from_mmdla, force=True)


def _read_file(path: Path, map_location: str, name: str | None = None) -> dict:
    name = name or str(path)
    with path.open('rb') as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f'checkpoint {name!r}: the file is empty')
    if re.match(rb'(\xef\xbb\xbf)?\s*<(!doctype|!--|html|\?xml|head|body)', head, re.IGNORECASE):
        raise CheckpointError(
            f'checkpoint {name!r}: this is a web page, probably an error page saved in place of '
            'the weights'
        )
    if path.suffix == '.safetensors' or head[8:9] == b'{':
        return _read_safetensors(path, map_location, name)
    if b'ustar' in head:
        raise CheckpointError(
            f'checkpoint {name!r}: a tar archive, as PyTorch 0.1.1 and before wrote; such are read by '
            'unpickling alone, which could run code'
        )
    if not head.startswith((b'PK', b'\x80')):
        raise CheckpointError(
            f'checkpoint {name!r}: neither a PyTorch nor a safetensors file (it starts with '
            f'{head[:16]!r})'
        )
    return _read_pickle(path, map_location, name)


def _read_safetensors(path: Path, map_location: str, name: str) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device='cpu' if map_location == 'meta' else map_location)
    except (SafetensorError, KeyError, ValueError) as error:  # of a type that PyTorch has not
        raise CheckpointError(
            f'checkpoint {name!r}: truncated or damaged safetensors file ({error})'
        ) from error


def _read_pickle(path: Path, map_location: str, name: str) -> dict:
    _check_claims(path, name)
    try:
        with _plain_classes_allowed():
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        reason = str(error) or type(error).__name__
        foreign = re.search(
            r'(?:GLOBAL|[Uu]nsupported (?:global|class):?) (?:GLOBAL )?([\w.]+)', reason
        )
        if foreign:
            raise CheckpointError(
                f'checkpoint {name!r}: holds an object of {foreign[1]}, which is not plain data; '
                'it is not loaded, because unpickling it could run code'
            ) from error
        # PyTorch puts advice to load unsafely before the reason.
        detail = re.search(r'WeightsUnpickler error:\s*(.+)', reason) or re.match(r'(.+)', reason)
        raise CheckpointError(
            f'checkpoint {name!r}: truncated or damaged PyTorch file, or none ({detail[1]})'
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'checkpoint {name!r}: holds a {type(content).__name__}, not a state dict'
        )
    _check_tensors(content, path.stat().st_size, name)
    return content


def _check_claims(path: Path, name: str) -> None:
    """Refuse a pickle that would become much larger in memory than it is as a file.

    Raises:
        CheckpointError: If it is a zip file of compressed or overlapping entries, or
            :func:`mmdla.utils.pickles.check_pickle` refuses it.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        zipped = file.read(4) == b'PK\x03\x04'
        file.seek(0)
        if not zipped:
            pickles = [file] * 5  # version and machine, the checkpoint, the storages behind it
        else:
            try:
                pickles = [io.BytesIO(data) for data in _stored_pickles(file, size)]
            except _PackedError as error:
                raise CheckpointError(f'checkpoint {name!r}: {error}') from None
            except Exception as error:  # of a damaged file zipfile raises almost anything
                raise CheckpointError(
                    f'checkpoint {name!r}: truncated or damaged PyTorch file ({error})'
                ) from error
        for one in pickles:
            try:
                check_pickle(one)
            except PickleSizeError as error:
                raise CheckpointError(f'checkpoint {name!r}: {error}') from error


class _PackedError(ValueError):
    """The entries of a zip file are not as they lie in memory."""


def _stored_pickles(file: BinaryIO, size: int) -> list[bytes]:
    """The pickles in a checkpoint that is a zip file of so many bytes.

    Raises:
        _PackedError: If an entry is compressed, or all together claim more bytes.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]
    claimed = sum(e.file_size for e in entries)
    if packed or claimed > size:
        raise _PackedError(
            'its zip entries '
            + (f'are compressed ({packed[0]!r})' if packed else f'claim {claimed:,} bytes')
            + f', with {size:,} bytes of file; torch.save stores them as they are'
        )
    found = []
    for entry in entries:
        # PyTorch's reader does not tell capitals. Checksums may be left out, which zipfile insists on.
        if entry.filename.lower().endswith('data.pkl'):
            file.seek(entry.header_offset)
            lengths = struct.unpack('<26xHH', file.read(30))
            file.seek(sum(lengths), os.SEEK_CUR)
            found.append(file.read(entry.file_size))
    return found


def _check_tensors(content: Mapping, size: int, name: str) -> None:
    """Refuse tensors that claim more than a file of this size can hold, by strides of 0 or unread.

    Raises:
        CheckpointError: If there is one.
    """
    left: list[tuple[str, Any]] = [('', content)]
    seen = set()
    while left:
        key, value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            left.extend((k if isinstance(k, str) else key, v) for k, v in value.items())
        elif isinstance(value, (list, tuple, set)):
            left.extend((key, v) for v in value)
        elif isinstance(value, Tensor):
            claimed = value.numel() * value.element_size()
            if value.layout is torch.strided:
                claimed = max(claimed, value.untyped_storage().nbytes())
            if claimed > size:
                raise CheckpointError(
                    f'checkpoint {name!r}: its tensor {key[:200]!r} of shape {tuple(value.shape)} '
                    f'claims {claimed:,} bytes, with {size:,} bytes of file'
                )


def plain_classes() -> list:
    """What mmengine's training checkpoints hold beside the weights; loading it runs no code.

    A ``HistoryBuffer`` refers to its own methods, pickled as calls of ``getattr``; PyTorch 2.6
    and later are given :func:`_method_of_history` in its place. What these return cannot be called in
    turn: PyTorch's reader calls what is on its list and nothing else.
    """
    import numpy as np
    from mmengine.logging import HistoryBuffer

    try:
        from numpy._core import multiarray
    except ImportError:  # before NumPy 1.26
        from numpy.core import multiarray

    numbers = {type(np.dtype(t)) for t in (np.float32, np.float64, np.int32, np.int64, np.bool_)}
    replaces = tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6)
    return [
        HistoryBuffer,
        (_method_of_history, 'builtins.getattr') if replaces else getattr,
        np.ndarray,
        np.dtype,
        multiarray.scalar,
        multiarray._reconstruct,
        *numbers,
    ]


def _method_of_history(kind: type, name: str) -> Callable:
    """``getattr`` as far as mmengine's checkpoints need it."""
    from mmengine.logging import HistoryBuffer

    if kind is not HistoryBuffer or name.startswith('_'):
        raise CheckpointError(f'holds a reference (getattr) to {name!r} of {kind!r}')
    return getattr(HistoryBuffer, name)


def allow_plain_classes() -> None:
    """Let ``torch.load`` read mmengine's own checkpoints without unpickling at will.

    PyTorch 2.6 and later refuse anything but tensors otherwise, and upstream mmengine then can neither
    resume nor infer from what it trained.
    """
    if hasattr(torch.serialization, 'add_safe_globals'):  # PyTorch 2.4 and later
        torch.serialization.add_safe_globals(plain_classes())


def _plain_classes_allowed():
    if not hasattr(torch.serialization, 'safe_globals'):  # before PyTorch 2.5
        return contextlib.nullcontext()
    # When it ends it takes off the list what it was given, and so what stood there before too.
    allowed = torch.serialization.get_safe_globals()
    return torch.serialization.safe_globals([c for c in plain_classes() if c not in allowed])


def state_dict_of(checkpoint: Mapping, source: str = 'checkpoint') -> dict[str, Tensor]:
    """The state dict in a checkpoint: itself, or what stands under the usual keys.

    Raises:
        CheckpointError: If there is none.
    """
    for key in ('state_dict', 'model', 'state_dict_ema'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    tensors = {k: v for k, v in checkpoint.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        keys = [k if isinstance(k, str) else type(k).__name__ for k in list(checkpoint)[:8]]
        raise CheckpointError(f'{source}: holds no state dict (its keys: {", ".join(keys)[:500]})')
    return tensors


def without_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}


def split_pretrained(init_cfg: dict | list[dict] | None) -> tuple[dict | None, list[dict] | None]:
    """Split ``init_cfg`` into the arguments of its ``Pretrained`` entry and the others.

    Raises:
        ValueError: If it has several ``Pretrained`` entries.
    """
    entries = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or ())
    ours = [e for e in entries if _is_pretrained(e)]
    if len(ours) > 1:
        raise ValueError(f'init_cfg has {len(ours)} Pretrained entries: give one')
    others = [e for e in entries if not _is_pretrained(e)]
    return ({k: v for k, v in ours[0].items() if k != 'type'} if ours else None), others or None


def _is_pretrained(entry: dict) -> bool:
    return getattr(entry['type'], '__name__', entry['type']) in ('Pretrained', 'PretrainedInit')


def load_pretrained(
    module: nn.Module,
    checkpoint: str,
    prefix: str | None = None,
    map_location: str | None = None,
) -> None:
    """Load published or own weights into a backbone.

    What the module itself drops (see :class:`mmdla.models.DLA`) is dropped silently; anything else
    missing, unexpected or of another shape is written to the log.

    Args:
        module (nn.Module): The backbone.
        checkpoint (str): Path or address; what begins with neither ``http(s)://`` nor ``file://`` but
            another scheme, such as ``torchvision://resnet50``, mmengine reads.
        prefix (str, optional): Under which name its parameters stand in the file. Default: found out.
        map_location (str, optional): Device to read to. Default: ``'cpu'``.

    Raises:
        FileNotFoundError, CheckpointError: If the file is not a checkpoint, see
            :func:`read_checkpoint`, or not one parameter in it is the module's.
    """
    from mmengine.logging import MMLogger, print_log
    from mmengine.runner.checkpoint import CheckpointLoader, load_state_dict

    if re.match(r'(?!https?:|file:)[\w+-]+://', checkpoint):
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location or 'cpu')
    else:
        content = read_checkpoint(checkpoint, map_location or 'cpu')
    state_dict = state_dict_of(content, f'checkpoint {checkpoint!r}')
    own = set(module.state_dict())
    converter, state = recognise(state_dict) or (None, None)
    if prefix is None and converter is _from_drnseg:  # whose layers have numbers, not names
        state_dict = converter(state, checkpoint).network
    if prefix is None:
        prefix = max(PREFIXES, key=lambda p: len(own & set(without_prefix(state_dict, p))))
    else:
        prefix = prefix.rstrip('.') + '.' if prefix else ''
    state_dict = without_prefix(state_dict, prefix)
    if not own & set(state_dict):
        raise CheckpointError(
            f'checkpoint {checkpoint!r}: none of its parameters is one of {type(module).__name__}'
            + (f' (prefix={prefix!r})' if prefix else '')
        )
    print_log(f'{type(module).__name__}: weights from {checkpoint}', logger='current')
    load_state_dict(module, state_dict, strict=False, logger=MMLogger.get_current_instance())


@dataclass
class Converted:
    """A released checkpoint in this project's names.

    Attributes:
        format (str): What the file was.
        state_dict (dict[str, Tensor]): Backbone under ``backbone.``, the rest under the name that
            the model of mmpretrain, mmseg or mmdet gives it; a backbone alone without any prefix.
        network (dict[str, Tensor]): The backbone's part, without prefix.
        down_ratio (int | None): Output stride of a segmentation network or a detector.
        num_classes (int | None): Classes of its classifier.
        backbone (str): Whose parameters ``network`` is: ``'DLA'`` or ``'DRN'``.
        left_out (tuple[str, ...]): Modules that have no counterpart here and are not in
            ``state_dict``; what the released code itself does not use is not among them.
    """

    format: str
    state_dict: dict[str, Tensor]
    network: dict[str, Tensor]
    down_ratio: int | None = None
    num_classes: int | None = None
    backbone: str = 'DLA'
    left_out: tuple[str, ...] = ()


AUTHORS_DLA = "authors' DLA classifier"
TIMM_DLA = "timm's DLA classifier"
AUTHORS_DLASEG = "authors' DLASeg"
AUTHORS_DRN = "authors' DRN classifier"
RESNET = 'ResNet classifier'  # the authors' DRN-A among them: it has ResNet's names and weights
AUTHORS_DRNSEG = "authors' DRNSeg"
# How the names of the released networks' parameters begin.
DLA_NAMES = r'base_layer|level\d'
DRN_NAMES = r'conv1|bn1|layer\d'
MMDET3D_DLANET = "mmdet3d's DLANet"
CENTERNET = 'DLASeg of the CenterNet family'
# Heads of CenterNet, and what mmdet's CenterNetHead calls them.
CENTERNET_HEADS = dict(hm='heatmap_head', wh='wh_head', reg='offset_head')


def convert_released(state_dict: Mapping[str, Tensor], source: str = 'checkpoint') -> Converted:
    """Recognise a released checkpoint by its keys and rename it for this project.

    Args:
        state_dict (Mapping[str, Tensor]): What the file holds.
        source (str): Its name, for messages.

    Returns:
        Converted: The result; the input is left as it is.

    Raises:
        CheckpointError: If it is none of the formats.
    """
    converter, state = recognise(state_dict) or (None, None)
    if converter is not None:
        return converter(state, source)
    raise CheckpointError(
        f"{source}: neither an authors' DLA, DLASeg, DRN or DRNSeg checkpoint, nor timm's DLA, nor a "
        "ResNet with torchvision's names, nor mmdet3d's DLANet, nor a DLASeg of the CenterNet family "
        f'(its keys: {", ".join(list(state_dict)[:6])}, ...)'
    )


def recognise(state_dict: Mapping[str, Tensor]) -> tuple[Callable, dict[str, Tensor]] | None:
    """Whose format a checkpoint has, going by its keys.

    Args:
        state_dict (Mapping[str, Tensor]): What the file holds.

    Returns:
        tuple | None: What converts it, called with its entries and its name for messages; and its
        entries without prefix. None if it is no released checkpoint.
    """
    for prefix in ('', 'module.', 'backbone.'):
        state = without_prefix(state_dict, prefix)
        if {'base.base_layer.0.weight', 'fc.0.weight', 'fc.0.bias'} <= state.keys():
            return _from_dlaseg, state
        parts = {k.split('.')[0] for k in state}
        if 'base.base_layer.0.weight' in state and {'dla_up', 'ida_up'} <= parts:
            return _from_centernet, state
        if 'base_layer.0.weight' in state:
            if any(k.endswith('.root.norm.weight') for k in state):
                return _from_mmdet3d, state
            if any(k.endswith('.root.bn.weight') for k in state):
                return _from_classifier, state
        if prefix == 'backbone.':  # here these are names of this project and of mmpretrain
            continue
        if {'seg.weight', 'seg.bias', 'base.8.0.weight'} <= state.keys():
            return _from_drnseg, state
        if {'seg.weight', 'seg.bias', 'base.0.weight', 'base.7.0.conv1.weight'} <= state.keys():
            return _from_drnseg, state
        d = {'layer0.0.weight', 'layer8.0.weight'} <= state.keys()
        if d or {'conv1.weight', 'bn1.weight', 'layer4.0.conv1.weight'} <= state.keys():
            return _from_drn, state
    return None


def rename_classifier(state_dict: dict[str, Tensor], prefix: str = '') -> None:
    """Rename, in place, what a released classifier's file holds as mmpretrain's classifier calls it.

    Any other state dict is left as it is.

    Args:
        state_dict (dict[str, Tensor]): Changed in place.
        prefix (str): Under which name the classifier stands. Default: ``''``.
    """
    state = without_prefix(state_dict, prefix)
    converter, released = recognise(state) or (None, None)
    # Below `backbone.` stand the parameters of mmpretrain's own classifier.
    if converter not in (_from_classifier, _from_drn) or any(k.startswith('backbone.') for k in state):
        return
    converted = converter(released, 'checkpoint')
    # What is no network's and no classifier's stays, to be reported.
    for key in state:
        if re.match(rf'(module\.)?({DLA_NAMES}|{DRN_NAMES}|fc)\.', key):
            del state_dict[prefix + key]
    head = {k: v for k, v in converted.state_dict.items() if k.startswith('head.')}
    network = {f'backbone.{k}': v for k, v in converted.network.items()}
    state_dict.update({prefix + k: v for k, v in (network | head).items()})


def _network(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's entries, without projections that the released trees throw away."""
    keys = [k for k in state if re.match(rf'({DLA_NAMES})\.', k)]
    # A tree holds trees where its first subtree has a subtree.
    inner = {k[: m.start()] for k in keys for m in re.finditer(r'tree1\.tree1\.', k)}
    dead = tuple(f'{prefix}project.' for prefix in inner)
    return {k: state[k] for k in keys if not k.startswith(dead)}


def _classifier(network: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A classifier as mmpretrain has it."""
    out = {f'backbone.{k}': v for k, v in network.items()}
    if {'fc.weight', 'fc.bias'} <= state.keys():
        # A 1x1 convolution on the pooled map in most, a linear layer in mmpretrain.
        weight = state['fc.weight']
        out['head.fc.weight'] = weight.flatten(1) if weight.ndim > 1 else weight
        out['head.fc.bias'] = state['fc.bias']
    return out


def _classes(out: Mapping[str, Tensor]) -> int | None:
    return out['head.fc.bias'].numel() if 'head.fc.bias' in out else None


def _from_classifier(state: Mapping[str, Tensor], source: str) -> Converted:
    network = _network(state)
    released = sum(k.startswith(('base_layer.', 'level')) for k in state)
    out = _classifier(network, state)
    kind = AUTHORS_DLA if released > len(network) else TIMM_DLA
    return Converted(kind, out, network, num_classes=_classes(out))


def _from_mmdet3d(state: Mapping[str, Tensor], source: str) -> Converted:
    network = _network({re.sub(r'\bnorm(\d?)\.', r'bn\1.', k): v for k, v in state.items()})
    return Converted(MMDET3D_DLANET, dict(network), network)


def _drn_network(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's entries, without the shortcut that the released DRN-C-58 does not add."""
    keys = [k for k in state if re.match(rf'({DRN_NAMES})\.', k)]
    return {k: state[k] for k in keys if not re.match(r'layer[78]\.0\.downsample\.', k)}


def _from_drn(state: Mapping[str, Tensor], source: str) -> Converted:
    network = _drn_network(state)
    out = _classifier(network, state)
    kind = AUTHORS_DRN if any(k.startswith('layer8.') for k in network) else RESNET
    return Converted(kind, out, network, num_classes=_classes(out), backbone='DRN')


def _from_drnseg(state: Mapping[str, Tensor], source: str) -> Converted:
    """The released ``base`` is a sequence: its layers are numbered as the network registers them."""
    base = without_prefix(state, 'base.')
    if '0.0.weight' in base:  # D: layers 0 to 8
        first, levels = {}, {i: f'layer{i}' for i in range(9)}
    else:  # conv1, bn1, the activation, in A the pooling, the levels
        first = {0: 'conv1', 1: 'bn1'}
        pooled = not any(k.startswith('3.') for k in base)
        start = 4 if pooled else 3
        levels = {start + i: f'layer{i + 1}' for i in range(4 if pooled else 8)}
    names = first | levels
    parts = {k.split('.')[0] for k in base}
    # What is no number of a layer is reported as it is.
    numbers = {int(p) if re.fullmatch('[0-9]{1,9}', p) else p for p in parts}
    if numbers - names.keys():
        raise CheckpointError(
            f'{source}: was taken for {AUTHORS_DRNSEG}, but has layers base.'
            f'{sorted(numbers - names.keys(), key=str)} that no DRN has'
        )
    renamed = {}
    for key, value in base.items():
        number, _, rest = key.partition('.')
        renamed[f'{names[int(number)]}.{rest}'] = value
    network = _drn_network(renamed)
    out = {f'backbone.{k}': v for k, v in network.items()}
    for name in ('weight', 'bias'):
        out[f'decode_head.conv_seg.{name}'] = state[f'seg.{name}']
    return Converted(
        AUTHORS_DRNSEG,
        out,
        network,
        down_ratio=8,
        num_classes=state['seg.bias'].numel(),
        backbone='DRN',
    )


def _down_ratio(state: Mapping[str, Tensor]) -> int:
    """Output stride, which the number of nested aggregations tells."""
    return 2 ** (5 - len({k.split('.')[1] for k in state if k.startswith('dla_up.')}))


def _from_dlaseg(state: Mapping[str, Tensor], source: str) -> Converted:
    network = _network(without_prefix(state, 'base.'))
    out = {f'backbone.{k}': v for k, v in network.items()}
    out |= {f'decode_head.{k}': v for k, v in state.items() if k.startswith('dla_up.')}
    for name in ('weight', 'bias'):
        out[f'decode_head.conv_seg.{name}'] = state[f'fc.0.{name}']
    return Converted(
        AUTHORS_DLASEG,
        out,
        network,
        down_ratio=_down_ratio(state),
        num_classes=state['fc.0.bias'].numel(),
    )


def _from_centernet(state: Mapping[str, Tensor], source: str) -> Converted:
    network = _network(without_prefix(state, 'base.'))
    out = {f'backbone.{k}': v for k, v in network.items()}
    up = {k: v for k, v in state.items() if k.startswith(('dla_up.', 'ida_up.'))}
    out |= {f'neck.{_centernet_name(k, source)}': v for k, v in up.items()}
    heads = _centernet_heads(state)
    out |= heads
    left_out = {k.split('.')[0] for k in state if not k.startswith(('base.', 'dla_up.', 'ida_up.'))}
    if heads:
        left_out -= CENTERNET_HEADS.keys()
    # CenterTrack's backbone takes the previous image too; `fc` is left from ImageNet.
    inputs = {k.split('.')[1] for k in state if k.startswith('base.')} - {'fc'}
    left_out |= {f'base.{name}' for name in inputs - {k.split('.')[0] for k in network}}
    return Converted(
        CENTERNET,
        out,
        network,
        down_ratio=_down_ratio(state),
        num_classes=out['bbox_head.heatmap_head.2.bias'].numel() if heads else None,
        left_out=tuple(sorted(left_out)),
    )


def _centernet_name(key: str, source: str) -> str:
    """Our name of an entry of ``dla_up`` or ``ida_up``."""
    name = key.removeprefix('dla_up.')
    layer = r'ida_\w+\.(proj|node)_\d+'
    name = re.sub(rf'^({layer})\.actf\.0\.', r'\1.bn.', name)
    name = name.replace('.conv.conv_offset_mask.', '.conv.conv_offset.')
    known = rf'ida_\w+\.up_\d+\.weight|{layer}\.(bn\.\w+|conv\.(conv_offset\.)?(weight|bias))'
    if not re.fullmatch(known, name):
        raise CheckpointError(
            f'{source}: a {CENTERNET}, but of another IDA-up ({key}): only 3x3 convolutions, plain or '
            'deformable, followed by batch norm (conv.weight, conv.bias, actf.0) have a counterpart'
        )
    return name


def _centernet_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Heads of heatmap, size and offset in mmdet's names; none unless they are CenterNetHead's."""
    heads = {}
    for name, ours in CENTERNET_HEADS.items():
        entries = without_prefix(state, f'{name}.')
        if entries.keys() != {'0.weight', '0.bias', '2.weight', '2.bias'}:
            return {}
        # FairMOT's sizes are the distances to four sides.
        if name != 'hm' and entries['2.bias'].numel() != 2:
            return {}
        heads |= {f'bbox_head.{ours}.{k}': v for k, v in entries.items()}
    return heads


# What converts whole segmentation networks.
SEGMENTATION_NETWORKS = (_from_dlaseg, _from_drnseg)


def weights_for(model: nn.Module, checkpoint: Mapping, source: str) -> dict[str, Tensor]:
    """The weights of a whole model in a checkpoint, in the model's names.

    Args:
        model (nn.Module): A model of mmpretrain or mmseg, to compare with; it is left as it is.
        checkpoint (Mapping): What :func:`read_checkpoint` gives. The authors' networks are converted.
        source (str): Its name, for messages.

    Raises:
        CheckpointError: If it holds no weights, or not all of the model, in their shapes.
    """
    state_dict = state_dict_of(checkpoint, source)
    # Anything else has this project's or a library's own names.
    converter, state = recognise(state_dict) or (None, None)
    if converter in SEGMENTATION_NETWORKS:
        state_dict = converter(state, source).state_dict
    elif not hasattr(model, 'decode_head'):
        rename_classifier(state_dict)
    given = {name.removeprefix('module.'): value for name, value in state_dict.items()}
    own = model.state_dict()
    if not given.keys() & own.keys():
        raise CheckpointError(
            f'{source}: none of its parameters is one of the model, {type(model).__name__} '
            f'with {type(model.backbone).__name__}'
        )
    wrong = [
        f'{name} (is {tuple(given[name].shape)}, must be {tuple(value.shape)})'
        if name in given
        else f'{name} (missing)'
        for name, value in own.items()
        if (name not in given or given[name].shape != value.shape)
        and not name.endswith('num_batches_tracked')
    ]
    _check_none(wrong, source)
    return given


def load_model(model: nn.Module, checkpoint: Mapping, source: str) -> None:
    """Load the weights of a whole model, these and no others.

    Args:
        model (nn.Module): A model of mmpretrain or mmseg.
        checkpoint (Mapping): What :func:`read_checkpoint` gives.
        source (str): Its name, for messages.

    Raises:
        CheckpointError: See :func:`weights_for`; or if it has parameters that the model has not, and
            does not drop by name.
    """
    result = model.load_state_dict(weights_for(model, checkpoint, source), strict=False)
    _check_none([f'{name} (of no use to it)' for name in result.unexpected_keys], source)


def _check_none(wrong: Sequence[str], source: str) -> None:
    if wrong:
        shown = ', '.join(wrong[:3]) + (f' and {len(wrong) - 3} more' if len(wrong) > 3 else '')
        raise CheckpointError(f'{source}: of another network than the model; {shown}')
