"""Exports networks to files that run without this project: ONNX and PyTorch's exported programs.

An exported network takes batches of any number, height and width. The file also holds its classes and
how images are normalized, so that it can be run without the config.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram

from .. import __version__
from ..utils.modes import eval_mode

# Suffixes of the formats, and the packages that writing and checking them needs beside PyTorch.
SUFFIXES = dict(onnx='.onnx', torch_export='.pt2')
PACKAGES = dict(onnx=('onnx', 'onnxscript', 'onnxruntime'), torch_export=())
# Key under which a file holds the metadata, as JSON.
KEY = 'mmdla'
# With images of this size, the deepest maps are larger than one pixel during tracing.
LEAST_SIDE = 97
Run = Callable[[Tensor], dict[str, Tensor]]


class ExportError(RuntimeError):
    """A model cannot be exported, or the file computes something else; the message says which."""


def export(
    model: nn.Module,
    example: Tensor,
    file: str | os.PathLike,
    format: str = 'onnx',
    normalize: bool = False,
    classes: Sequence[str] | None = None,
    tolerance: float = 1e-4,
) -> float:
    r"""Export a model to a file, and check that the file computes what the model does.

    The input is called ``images``, the outputs depend on the task:

    - ``scores`` (N, classes), probabilities, of an ``ImageClassifier`` of mmpretrain, and with
      :class:`mmdla.ClassMapHead` ``class_maps`` (N, classes, h, w);
    - ``logits`` (N, out_channels, H, W), of an ``EncoderDecoder`` of mmseg, at the images' size, before
      softmax or, with one channel, before the sigmoid and the threshold that the file holds;
    - ``probability`` (N, H, W), of an ``EncoderDecoder`` with a ``BoundaryHead`` or a
      ``LinearBoundaryHead``.

    N, H and W are free, whatever the size of the example. mmseg's sliding windows are not part of the
    graph; it can be run on full images or on windows.

    The file is run on the example, and on another number of images that are one row and one column
    larger, by ONNX Runtime or PyTorch.

    Args:
        model (nn.Module): An ``ImageClassifier`` or an ``EncoderDecoder``; it does not change.
        example (Tensor): Images to check with, (N, C, H, W), float32, normalized as by the model's
            ``data_preprocessor``; not normalized if ``normalize`` is set.
        file (str | PathLike): File to write, ``.onnx`` or ``.pt2``. It must not exist.
        format (str): ``'onnx'`` or ``'torch_export'``. Default: ``'onnx'``.
        normalize (bool): Put the data preprocessor's mean and deviation into the graph, which then
            takes values of 0 to 255. Default: False.
        classes (Sequence[str], optional): Names of the classes, which are stored in the file. Default:
            None.
        tolerance (float): Largest difference allowed, as a fraction of the largest value of the output
            or, if that is larger, of the logits before the softmax, since rounding of logits changes
            probabilities accordingly. Default: 1e-4.

    Returns:
        float: The largest difference, as such a fraction.

    Raises:
        ValueError: If an argument is impossible; the message names it and what would be right.
        FileExistsError: If the file exists already.
        ImportError: If a package that the format needs is missing, or PyTorch is too old.
        ExportError: If the model's code depends on the size of the images, the exporter fails, or the
            file computes something else. No file is left then.

    Example:
        >>> from mmpretrain import get_model
        >>> import mmdla
        >>> mmdla.register_all_modules()
        >>> from mmdla.deploy.exporting import export
        >>> model = get_model('dla34_imagenet')
        >>> export(model, torch.randn(1, 3, 224, 224), 'dla34.onnx')  # doctest: +SKIP
    """
    file = Path(file)
    check_file(file, format)
    if not isinstance(example, Tensor) or example.ndim != 4 or example.dtype != torch.float32:
        found = type(example).__name__
        if isinstance(example, Tensor):
            found = f'a tensor of shape {tuple(example.shape)} and type {example.dtype}'
        raise ValueError(f'example: must be images (N, C, H, W) of float32, not {found}')
    if not example.numel():
        raise ValueError(f'example of shape {tuple(example.shape)}: must hold at least one pixel')
    check_packages(format)
    graph = Graph(model, normalize)
    if classes is not None and graph.num_classes not in (None, len(classes)):
        raise ValueError(
            f'classes: {len(classes)} names; must be as many as the model tells apart, '
            f'{graph.num_classes}'
        )
    with eval_mode(model), torch.no_grad(), _new_file(file) as part, _quiet():
        program = _trace(graph, example)
        WRITERS[format](program, graph, part, graph.metadata(classes))
        del program
        return _check(graph, example, load(part, format)[0], tolerance, file)


def load(file: str | os.PathLike, format: str | None = None) -> tuple[Run, dict]:
    """Load an exported file: a function that runs it, and its metadata.

    Args:
        file (str | PathLike): A file that :func:`export` wrote.
        format (str, optional): ``'onnx'`` or ``'torch_export'``. Default: None, from its suffix.

    Returns:
        tuple[Callable, dict]: A function from images (N, C, H, W) to a dict of outputs; and ``task``,
        ``classes``, ``normalized`` (whether by the graph), ``mean``, ``std``, ``channels``
        (``'RGB'`` or ``'BGR'``) and ``mmdla``, the version; of a segmentor also ``labels``, the formula
        from logits to labels, ``'argmax(logits, axis=1)'`` or ``'sigmoid(logits) > threshold'``, and
        with the latter ``threshold``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If a package to read it is missing.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f'{file}: there is no such file')
    format = format or {v: k for k, v in SUFFIXES.items()}.get(file.suffix, file.suffix)
    _check_format(format)
    return READERS[format](file)


class Graph(nn.Module):
    """The module that is traced: from images to the outputs of the task.

    Args:
        model (nn.Module): An ``ImageClassifier`` or an ``EncoderDecoder``.
        normalize (bool): Whether to normalize images first. Default: False.

    Raises:
        ValueError: If the model is neither, or ``normalize`` is set and it has no mean and std.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(self, model: nn.Module, normalize: bool = False):
        super().__init__()
        self.task = task_of(model)
        self.model: Any = model
        self.normalize = normalize
        if self.task == 'classification':
            self.outputs = ['scores']
            if hasattr(model.head, 'class_maps'):
                self.outputs.append('class_maps')
        else:
            self.outputs = ['probability' if self.task == 'boundaries' else 'logits']
        self.register_buffer('mean', None)
        self.register_buffer('std', None)
        preprocessor: Any = getattr(model, 'data_preprocessor', None)
        # Classifiers' preprocessors keep the flag where they have no mean.
        if getattr(preprocessor, '_enable_normalize', False):
            self.mean, self.std = preprocessor.mean.clone(), preprocessor.std.clone()
        elif normalize:
            raise ValueError(
                "normalize=True: the model's data_preprocessor has no mean and std; leave it out"
            )
        # mmpretrain's name, mmengine's, and that of upstream's mmseg.
        flags = ('to_rgb', '_channel_conversion', 'channel_conversion')
        to_rgb = any(getattr(preprocessor, flag, False) for flag in flags)
        self.channels = 'RGB' if to_rgb else 'BGR'

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the model; None if it has no such attribute."""
        part = self.model.head if self.task == 'classification' else self.model
        return getattr(part, 'num_classes', None)

    def metadata(self, classes: Sequence[str] | None) -> dict:
        """Metadata that is needed to run the file without the config."""
        numbers = {
            name: None if value is None else [float(f'{v:.7g}') for v in value.flatten()]
            for name, value in dict(mean=self.mean, std=self.std).items()
        }
        return dict(
            task=self.task,
            classes=None if classes is None else list(classes),
            channels=self.channels,
            normalized=self.normalize,
            **numbers,
            **(self.labels if self.task == 'segmentation' else {}),
            mmdla=__version__,
        )

    @property
    def labels(self) -> dict:
        """How a segmentor's logits become labels, as in mmseg's ``predict``."""
        if self.model.out_channels > 1:
            return dict(labels='argmax(logits, axis=1)')
        return dict(labels='sigmoid(logits) > threshold', threshold=self.model.decode_head.threshold)

    def raw_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs before softmax or sigmoid."""
        if self.normalize and self.mean is not None and self.std is not None:
            images = (images - self.mean) / self.std
        if self.task != 'classification':
            return {self.outputs[0]: self._logits(images)}
        feats, head = self.model.extract_feat(images), self.model.head
        found = dict(scores=head(feats))
        if 'class_maps' in self.outputs:
            found['class_maps'] = head.class_maps(feats)
        return found

    def _logits(self, images: Tensor) -> Tensor:
        """Logits of a segmentor at the images' size."""
        from mmseg.models.decode_heads.decode_head import BaseDecodeHead

        model, size = self.model, images.shape[2:]
        predict = getattr(type(model.decode_head), 'predict_by_feat', None)
        if model.align_corners and predict is BaseDecodeHead.predict_by_feat:
            # mmseg's own resizing makes the sizes constants, because it warns about some.
            logits = model.decode_head(model.extract_feat(images))
            return F.interpolate(logits, size, mode='bilinear', align_corners=True)
        return model.encode_decode(images, [dict(img_shape=size)])

    @staticmethod
    def activate(responses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply softmax or sigmoid to the outputs of :meth:`raw_outputs`."""
        found = dict(responses)
        if 'scores' in found:
            found['scores'] = found['scores'].softmax(1)
        if 'probability' in found:
            logits = found['probability']
            one = logits.shape[1] == 1
            found['probability'] = logits.sigmoid()[:, 0] if one else logits.softmax(1)[:, 1]
        return found

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.activate(self.raw_outputs(images))


def task_of(model: nn.Module) -> str:
    """``'classification'``, ``'segmentation'`` or ``'boundaries'``.

    Raises:
        ValueError: If the model is for another task.
    """
    if _is_instance(model, 'mmdla.deploy.inference', 'Optimized'):
        raise ValueError('model: is optimized for PyTorch; export the original model instead')
    if _is_instance(model, 'mmpretrain.models', 'ImageClassifier'):
        head = model.head
        if not _is_instance(head, 'mmpretrain.models', 'ClsHead'):
            raise ValueError(
                f'model: its head is a {type(head).__name__}; must be a ClsHead, whose scores are the '
                'softmax over classes, such as LinearClsHead or mmdla.ClassMapHead'
            )
        return 'classification'
    if _is_instance(model, 'mmseg.models', 'EncoderDecoder'):
        kind = 'BoundaryOutputs'
        is_boundary = _is_instance(model.decode_head, 'mmdla.models.decode_heads.boundary_head', kind)
        return 'boundaries' if is_boundary else 'segmentation'
    raise ValueError(
        f"model of type {type(model).__name__}: must be mmpretrain's ImageClassifier or mmseg's "
        'EncoderDecoder'
    )


def _is_instance(value: object, module: str, name: str) -> bool:
    """Like isinstance, without importing the library: a class that is not imported has no instances."""
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(value, cls)


def check_file(file: Path, format: str) -> None:
    """Raise ValueError or FileExistsError unless a file of this format can be written there."""
    _check_format(format)
    if file.suffix != SUFFIXES[format]:
        raise ValueError(f'file={str(file)!r}: must end in {SUFFIXES[format]} with format={format!r}')
    if file.exists():
        raise FileExistsError(f'{file} exists already: move it away, or choose another file')


def _check_format(format: str) -> None:
    if format not in SUFFIXES:
        raise ValueError(f'format={format!r}: must be one of {sorted(SUFFIXES)}')


def check_packages(format: str) -> None:
    """Raise ImportError if a package that a format needs is missing, or PyTorch is too old."""
    missing = [name for name in PACKAGES[format] if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'format={format!r} needs {", ".join(missing)}, not installed here: '
            f"pip install {' '.join(missing)} (or 'mmdla[export]')"
        )
    from torch.fx.experimental import _config

    # Without these, PyTorch restricts a graph to maps larger than one pixel, or cannot export.
    if not (hasattr(torch.compiler, 'is_exporting') and hasattr(_config, 'backed_size_oblivious')):
        raise ImportError(f'exporting needs PyTorch 2.8 or later; this is {torch.__version__}')


def _trace(graph: Graph, example: Tensor) -> ExportedProgram:
    """Trace the graph of a model, with free sizes.

    Raises:
        ExportError: If the model cannot be traced, or its code depends on the size.
    """
    from torch.export import Dim
    from torch.fx.experimental import _config

    # Tracing uses shapes only. It treats sizes of 1 as constants, so the images are enlarged. The
    # factor is odd, so that sizes stay even or odd, and multiples of what a network requires.
    batch, channels, *size = example.shape
    size = [side * _odd(-(-LEAST_SIDE // side)) for side in size]
    images = example.new_zeros(max(batch, 2), channels, *size)
    free = {0: Dim('batch', min=1), 2: Dim('height', min=1), 3: Dim('width', min=1)}
    try:
        # Otherwise the graph would not take maps of one pixel.
        with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            return torch.export.export(graph, (images,), dynamic_shapes=dict(images=free), strict=False)
    except Exception as error:  # the exporter raises almost anything
        kind = type(graph.model).__name__
        why = f'{type(error).__name__}: {error}'
        if 'Constraints violated' in why:
            # The message has a line for each branch; show the first.
            first = next((line for line in str(error).splitlines() if line.startswith('  - ')), '  - ')
            why = f'its computation depends on the size of the images ({first[4:]})'
        raise ExportError(f'{kind} could not be exported: {why}') from error


def _odd(number: int) -> int:
    return number + 1 - number % 2


def _write_onnx(
    program: torch.export.ExportedProgram, graph: Graph, file: Path, metadata: dict
) -> None:
    try:
        model: Any = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=['images'], output_names=graph.outputs
        )
    except Exception as error:
        raise ExportError(
            f'{type(graph.model).__name__} could not be turned into ONNX: {error}'
        ) from error
    _name_sizes(model.model)
    model.model.metadata_props[KEY] = json.dumps(metadata)
    model.model.producer_name, model.model.producer_version = 'mmdla', __version__
    model.save(str(file), external_data=False)


def _name_sizes(model: Any) -> None:
    """Name the free dimensions ``batch``, ``height`` and ``width``, for readers of the file."""
    import onnx_ir as ir

    shape = model.graph.inputs[0].shape
    names = {str(shape[i]): name for i, name in {0: 'batch', 2: 'height', 3: 'width'}.items()}
    values = [*model.graph.inputs, *model.graph.outputs]
    for node in model.graph:
        values += node.outputs
    for value in values:
        for i, side in enumerate(value.shape or ()):
            if str(side) in names:
                value.shape[i] = ir.SymbolicDim(names[str(side)])


def _write_torch(
    program: torch.export.ExportedProgram, graph: Graph, file: Path, metadata: dict
) -> None:
    torch.export.save(program, str(file), extra_files={f'{KEY}.json': json.dumps(metadata)})


def _read_onnx(file: Path) -> tuple[Run, dict]:
    check_packages('onnx')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {'images': images.detach().cpu().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, found)}

    held = session.get_modelmeta().custom_metadata_map
    return run, json.loads(held.get(KEY, '{}'))


def _read_torch(file: Path) -> tuple[Run, dict]:
    held = {f'{KEY}.json': ''}
    program = torch.export.load(str(file), extra_files=held)
    return program.module(), json.loads(held[f'{KEY}.json'] or '{}')


WRITERS = dict(onnx=_write_onnx, torch_export=_write_torch)
READERS = dict(onnx=_read_onnx, torch_export=_read_torch)


def _check(graph: Graph, example: Tensor, run: Run, tolerance: float, file: Path) -> float:
    """The largest difference between a file's outputs and the model's.

    Raises:
        ExportError: If it is above the tolerance, or the shapes differ.
    """
    # Another number of images, and sides that are even instead of odd.
    other = F.pad(torch.cat([example, example[:1]]), (0, 1, 0, 1), mode='replicate')
    largest = 0.0
    for images in (example, other):
        found, size = run(images), 'x'.join(map(str, images.shape))
        responses = graph.raw_outputs(images)
        for name, wanted in graph.activate(responses).items():
            value = found[name].to(wanted.device)
            if value.shape != wanted.shape:
                raise ExportError(
                    f'{file}: its {name} of {size} images are of shape {tuple(value.shape)}, the '
                    f"model's of {tuple(wanted.shape)}; nothing was written"
                )
            scale = float(torch.stack([wanted.abs().max(), responses[name].abs().max()]).max())
            if not math.isfinite(scale):
                raise ExportError(
                    f"{file}: the model's own {name} of {size} images are not finite and cannot be "
                    'compared; nothing was written'
                )
            difference = float((value - wanted).abs().max()) / max(scale, torch.finfo(value.dtype).tiny)
            if not difference <= tolerance:  # true for NaN, too
                raise ExportError(
                    f"{file}: its {name} of {size} images differ from the model's by {difference:.1e} "
                    f'of the largest value, more than tolerance={tolerance:g}; nothing was written'
                )
            largest = max(largest, difference)
    return largest


@contextmanager
def _new_file(file: Path) -> Iterator[Path]:
    """A file to write: it gets its name when complete, and is removed after an error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f'.{file.name}.part-', dir=file.parent))
    try:
        yield folder / file.name
        if file.exists():
            raise FileExistsError(f'{file} was created in the meantime, and is kept')
        os.rename(folder / file.name, file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' own messages."""
    loggers = [logging.getLogger(name) for name in ('torch.onnx', 'onnxscript', 'onnx_ir')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
