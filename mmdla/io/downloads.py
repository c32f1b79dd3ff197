"""Downloads of checkpoints, which are kept only if they are complete and match their hash."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag, urlparse
from urllib.request import HTTPRedirectHandler, Request, build_opener

import torch

from .errors import CheckpointError

HUB = 'https://huggingface.co'


def download(address: str, verify: Callable[[Path, str], object]) -> Path:
    """Download a checkpoint, once for all processes, and return the path of the file.

    Args:
        address (str): ``http(s)://``, with or without ``#sha256=...``.
        verify (Callable[[Path, str], object]): Called with the downloaded file and its name for
            messages before the file is kept; raises an error if it is not a checkpoint.

    Raises:
        CheckpointError: If it cannot be downloaded, stored or read, or does not match its hash.
        ValueError: If what follows ``#`` is not a hash.
    """
    from filelock import FileLock

    url, fragment = urldefrag(address)
    folder = Path(torch.hub.get_dir()) / 'checkpoints' / 'mmdla'
    # Files of many models share a name (`model.safetensors`); a hash of the address distinguishes them.
    name = Path(urlparse(url).path).name or 'checkpoint'
    path = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}'
    wanted = wanted_hash(address, fragment) or _hash_in_name(name)
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f'{path}.lock'):
                if not path.exists():
                    _fetch(url, path, wanted, verify)
                    return path
        except OSError as error:
            raise CheckpointError(
                f'checkpoint {url!r}: could not be stored in {folder} ({error.strerror or error}); '
                'set TORCH_HOME to another folder'
            ) from error
    check_hash(path, wanted, f'{url} (stored as {path}; delete it to download it again)')
    return path


def _fetch(url: str, path: Path, wanted: str | None, verify: Callable[[Path, str], object]) -> None:
    """Download a file; it gets its name when it is complete."""
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
        verify(part, repr(url))
        check_hash(part, wanted or announced, url)
        os.replace(part, path)
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        reason = f'no connection to {urlparse(url).netloc}: {getattr(error, "reason", error)}'
        if isinstance(error, HTTPError):
            reason = f'the server answers {error.code} {error.reason}'
        raise CheckpointError(
            f'checkpoint {url!r}: could not be downloaded ({reason}); if you have the file, give its '
            'path instead'
        ) from error
    finally:
        part.unlink(missing_ok=True)


def wanted_hash(address: str, fragment: str) -> str | None:
    """The SHA-256, or its beginning, at the end of an address; None if there is none."""
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
    """Size and SHA-256 of a file, as far as its server announces them.

    The Hugging Face hub announces both of the file that it redirects to.
    """
    headers: dict[str, str] = {}

    class Listener(HTTPRedirectHandler):
        def redirect_request(
            self, req: Any, fp: Any, code: int, msg: str, answer: Any, newurl: str
        ) -> Request | None:
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


def check_hash(path: Path, wanted: str | None, name: str) -> None:
    """Compare a file's SHA-256 with the expected one, or its beginning, if there is one.

    Raises:
        CheckpointError: If they differ.
    """
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
            'the transfer corrupted it, or it is another file'
        )
