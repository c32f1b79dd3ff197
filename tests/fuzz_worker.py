"""Reads files that test_fuzz.py made up, in a process of its own: `fuzz_worker.py`, requests on stdin.

A request is a line of JSON, `reader` and `path`; so is the answer: `what` became of it (`accepted`,
`refused`, or else an error that no reader documents), the `message`, and the `peak` of memory in MiB.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import runpy
import sys
import traceback
from pathlib import Path

# What is allocated and not written to takes no memory: a process that is cut off here has taken too much
# of it.
MEMORY = 5 * 2**30
TOOLS = Path(__file__).resolve().parents[1] / 'tools/dataset_converters'


def checkpoint(path: Path) -> None:
    from mmdla.checkpoints import convert_released, read_checkpoint

    content = read_checkpoint(path)
    converted = convert_released(content, str(path))
    assert converted.report.total >= len(converted.state_dict)


def annotations(path: Path) -> None:
    from mmdla.io.boundary_files import read_annotations

    found = read_annotations(path)
    assert (found.ndim, found.dtype) == (3, bool)
    assert found.size


def boundary_map(path: Path) -> None:
    from mmdla.io.boundary_files import read_boundary_map

    found = read_boundary_map(path)
    assert (found.ndim, found.dtype) == (2, float)
    assert 0 <= found.min() <= found.max() <= 1


def imagenet(path: Path) -> None:
    import numpy as np

    from mmdla.datasets.boxes import ImageNetBoxes

    dataset = ImageNetBoxes(
        str(path.parent), split='val', classes=['a'], box_prefix='.', lazy_init=False
    )
    for info in dataset:
        assert info['gt_bboxes'].shape[1:] == (4,)
        assert np.isfinite(info['gt_bboxes']).all()


def cub(path: Path) -> None:
    import numpy as np

    from mmdla.datasets.boxes import CUBBoxes

    for info in CUBBoxes(str(path.parent), split='train'):
        assert info['gt_bboxes'].shape == (1, 4)
        assert np.isfinite(info['gt_bboxes']).all()


def lists(path: Path) -> None:
    from mmdla.datasets.boundaries import PASCALBoundariesDataset

    assert len(PASCALBoundariesDataset(str(path.parent), 'train', pipeline=[]))


def generated(path: Path) -> None:
    from mmdla.datasets.demo_objects import BOXES, DemoObjectsDataset

    reader = DemoObjectsDataset.__new__(DemoObjectsDataset)
    reader.ann_file, reader.data_root, reader.split = str(path), str(path.parent), 'train'
    reader._metainfo = dict(DemoObjectsDataset.METAINFO)
    assert path.name == BOXES
    assert all(info['gt_bboxes'].shape == (1, 4) for info in reader.load_data_list())


def converter(name: str, path: Path) -> None:
    """A tool, which says by its exit what was wrong."""
    out = path.parent / 'out'
    arguments = [path, path.parent, out] if name == 'pascal_boundaries' else [path, out]
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(str(TOOLS / f'{name}.py'), run_name='__main__')
    except SystemExit as error:
        if not str(error.code).startswith(f'{name}: ') or out.exists():
            raise
        raise ValueError(f'{path}: {error.code}') from error
    assert out.is_dir()


def reader_of(name: str):
    """The function that reads, and what it documents to raise."""
    from mmdla.checkpoints import CheckpointError
    from mmdla.datasets.folders import DataFolderError
    from mmdla.io.boundary_files import BoundaryFileError

    known = dict(
        checkpoint=(checkpoint, CheckpointError),
        annotations=(annotations, BoundaryFileError),
        boundary_map=(boundary_map, BoundaryFileError),
        imagenet=(imagenet, DataFolderError),
        cub=(cub, DataFolderError),
        lists=(lists, DataFolderError),
        generated=(generated, DataFolderError),
    )
    if name in known:
        return known[name]
    return lambda path: converter(name, path), ValueError


def answer(name: str, path: Path) -> dict:
    """Read a file and tell what became of it."""
    read, documented = reader_of(name)
    written = io.StringIO()
    message = ''
    try:
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
            read(path)
        what = 'accepted'
    except BaseException as error:
        message = str(error)
        what = 'refused' if isinstance(error, documented) else traceback.format_exc()
        if what == 'refused' and str(path) not in message and str(path.parent) not in message:
            what = f'the message does not name the file: {message!r}'
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return dict(what=what, message=message, peak=peak)


def main() -> None:
    replies = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what libraries print is no answer
    import cv2
    import torch

    import mmdla
    import mmdla.datasets.boundaries
    import mmdla.datasets.boxes
    import mmdla.datasets.demo_objects  # noqa: F401

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(dict(ready=least)), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(request['reader'], Path(request['path']))), file=replies, flush=True)


if __name__ == '__main__':
    main()
