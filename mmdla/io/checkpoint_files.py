"""Reads checkpoint files of PyTorch and safetensors without running code from them."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlparse
from urllib.request import url2pathname

import torch

from .downloads import check_hash, download, wanted_hash
from .errors import CheckpointError
from .plain_pickles import ForeignClassError, Placeholder, plain_pickle_module


def read_checkpoint(
    source: str | os.PathLike,
    map_location: str | torch.device | Callable = 'cpu',
    plain_only: bool = False,
) -> dict:
    """Read a checkpoint of any format without running code from it.

    Tensors, numbers, text, NumPy arrays, dates, paths and containers of these are read unchanged.
    Objects of other classes become a :class:`~mmdla.io.plain_pickles.Placeholder`.

    Args:
        source (str | PathLike): A path, or an ``http(s)://`` or ``file://`` address, of a file of
            PyTorch (``.pth``, ``.pt``, ``.bin``, ``.ckpt``) or safetensors. Downloads are kept in
            PyTorch's hub folder if they have the announced length, can be read, and match the SHA-256
            at the end of the address (``#sha256=...``), in the file's name (``dla34-ba72cf86.pth``)
            or announced by the Hugging Face hub. ``HF_ENDPOINT`` names a mirror of the hub.
        map_location (str | torch.device | Callable): Device of the tensors, as in ``torch.load``.
            Default: ``'cpu'``.
        plain_only (bool): Raise an error where a placeholder would be needed, as a run that resumes
            must. Default: False.

    Returns:
        dict: The content of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file cannot be read or downloaded, does not match its hash, or does
            not hold a mapping; with ``plain_only``, also if it holds an object of another class.
        ValueError: If what follows ``#`` in an address is not a hash.
    """
    source = os.fspath(source)
    if re.match(r'https?://', source):
        path = download(source, lambda file, name: read_file(file, 'meta', name=name))
    elif source.startswith('file://'):
        url, fragment = urldefrag(source)
        path = Path(url2pathname(urlparse(url).path))
        if path.is_file():
            check_hash(path, wanted_hash(source, fragment), str(path))
    else:
        path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {str(path)!r}: there is no such file')
    return read_file(path, map_location, plain_only)


def read_file(
    path: Path,
    map_location: str | torch.device | Callable = 'cpu',
    plain_only: bool = False,
    name: str | None = None,
) -> dict:
    """Read a local file, called ``name`` in messages; see :func:`read_checkpoint`."""
    name = f'checkpoint {name or repr(str(path))}'
    with path.open('rb') as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f'{name}: the file is empty')
    if re.match(rb'(\xef\xbb\xbf)?\s*<(!doctype|!--|html|\?xml|head|body)', head, re.IGNORECASE):
        raise CheckpointError(
            f'{name}: this is a web page, probably an error page saved in place of the weights'
        )
    safetensors = path.suffix == '.safetensors' or head[8:9] == b'{'
    try:
        if safetensors:
            from safetensors.torch import load_file

            at = map_location if isinstance(map_location, str | torch.device) else 'cpu'
            content: Any = load_file(path, device='cpu' if str(at) == 'meta' else str(at))
        else:
            content = _torch_load(path, map_location, plain_only)
    except ForeignClassError as error:
        raise CheckpointError(
            f'{name}: holds an object of {error.name}, which is not plain data; it is not loaded, '
            'because unpickling it could run code. If you trust the file, save the weights alone, '
            "torch.save(dict(state_dict=torch.load(FILE, weights_only=False)['state_dict']), NEW), "
            'and start from them with load_from'
        ) from error
    except Exception as error:  # pickle and zipfile raise almost anything for a corrupt file
        library = 'safetensors' if safetensors else 'PyTorch'
        reason = str(error) or type(error).__name__
        raise CheckpointError(f'{name}: {library} cannot read it: {reason[:500]}') from error
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    foreign_class = getattr(content, 'name', None)  # of a placeholder
    if not isinstance(content, dict):
        kind = foreign_class or type(content).__name__
        raise CheckpointError(f'{name}: holds {kind}, not a mapping of names to tensors{_SAVE_WEIGHTS}')
    if foreign_class and not content:
        raise CheckpointError(f'{name}: holds an object of {foreign_class}, not weights{_SAVE_WEIGHTS}')
    return content


_SAVE_WEIGHTS = (
    '; where the code of that model is available, '
    'torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW) saves its weights'
)


def _torch_load(path: Path, map_location: Any, plain_only: bool) -> Any:
    with path.open('rb') as file:
        zipped = file.read(4) == b'PK\x03\x04'
    if zipped and 'constants.pkl' in torch._C.PyTorchFileReader(str(path)).get_all_records():
        # Loading it would run its code.
        raise ValueError(
            'it is a TorchScript archive, a program; save the state_dict() of the module that '
            'torch.jit.load returns instead'
        )
    with _own_unpickler_allowed():
        return torch.load(
            path,
            map_location=map_location,
            pickle_module=plain_pickle_module(plain_only),
            weights_only=False,
        )


FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_forcing = threading.RLock()


@contextlib.contextmanager
def _own_unpickler_allowed() -> Iterator[None]:
    """Unset the variable that makes torch.load refuse every unpickler but its own."""
    with _forcing:
        value = os.environ.pop(FORCE, None)
        try:
            yield
        finally:
            if value is not None:
                os.environ[FORCE] = value


def state_dict_of(checkpoint: Mapping, source: str = 'checkpoint') -> dict[str, torch.Tensor]:
    """Find the state dict in a checkpoint: the first of its nested mappings with the most tensors.

    Raises:
        CheckpointError: If no mapping has named tensors.
    """
    best: dict[str, torch.Tensor] = {}
    left: list[Any] = [checkpoint]
    seen = set()
    while left:
        mapping = left.pop(0)
        if id(mapping) in seen:
            continue
        seen.add(id(mapping))
        if isinstance(mapping, list | tuple):
            left += mapping
        elif isinstance(mapping, Mapping):
            items = mapping.items()
            tensors = {k: v for k, v in items if isinstance(k, str) and isinstance(v, torch.Tensor)}
            best = tensors if len(tensors) > len(best) else best
            left += mapping.values()
    if not best:
        keys = [k if isinstance(k, str) else type(k).__name__ for k in list(checkpoint)[:8]]
        shown = ', '.join(keys)[:500]
        raise CheckpointError(
            f'{source}: holds no state dict (its keys: {shown}){objects_in(checkpoint)}'
        )
    return best


def objects_in(checkpoint: Mapping) -> str:
    """Advice for a checkpoint that holds pickled objects but no weights; '' if it holds none."""
    for key, value in checkpoint.items():
        if isinstance(value, Placeholder) and not value:
            return (
                f'; {key!r} is an object of {value.name}: where its code is available, '
                f'torch.save(torch.load(FILE, weights_only=False)[{key!r}].state_dict(), NEW) saves '
                'the weights of a model'
            )
    return ''


def _without(held: Any, known: set[int], above: tuple[int, ...] = ()) -> Any:
    """Nested mappings without the objects of some ids; a mapping without any is returned unchanged."""
    if not isinstance(held, Mapping) or id(held) in above:
        return held
    above = (*above, id(held))
    rest = {k: _without(v, known, above) for k, v in held.items() if id(v) not in known}
    return held if len(rest) == len(held) and all(rest[k] is held[k] for k in rest) else rest


def load_for_mmengine(filename: str, map_location: Any = None) -> dict:
    """Read a checkpoint for mmengine's ``CheckpointLoader``.

    Args:
        filename (str): Path or address.
        map_location (str | torch.device | Callable, optional): Device of the tensors. Default: the CPU.

    Returns:
        dict: The content of the file with its weights under ``state_dict``, and a ``meta``. The text
        ``meta['config']`` is removed, since mmengine would run it.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: See :func:`read_checkpoint`.
    """
    content = read_checkpoint(filename, map_location or 'cpu')
    if isinstance(content.get('state_dict'), Mapping):
        found = dict(content)
    else:
        weights = state_dict_of(content, f'checkpoint {filename!r}')
        found = dict(_without(content, set(map(id, weights.values()))), state_dict=weights)
    meta = found.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    return dict(found, meta={k: v for k, v in meta.items() if k != 'config'})


# Addresses that mmengine leaves to this reader: files that its own loaders cannot read, and published
# files on the hub or a mirror of it. mmengine matches them as patterns, the specific ones first.
SCHEMES = (
    r'.*\.safetensors([?#].*)?$',
    r'https?://.*\.safetensors([?#].*)?$',
    r'https?://.*/timm/dla[^/]*\.in1k/',
    r'https?://.*/RoyYang0714/AFA/',
)


def extend_mmengine() -> None:
    """Make mmengine's ``CheckpointLoader`` use this reader for addresses that :data:`SCHEMES` match."""
    from mmengine.runner import CheckpointLoader

    CheckpointLoader.register_scheme(SCHEMES, load_for_mmengine, force=True)
