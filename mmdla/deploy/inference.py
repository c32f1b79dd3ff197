"""Optimizes networks for inference: the same predictions in less time."""

from __future__ import annotations

import copy
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, cast

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model import BaseModel, revert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..analysis.timing import timed
from ..models.layers import LearnedUpsample
from ..utils.modes import eval_mode
from .convolutions import backend, replace_convolutions
from .upsampling import PhaseUpsample

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TOLERANCE = 1e-4  # of float32, relative
# A lower precision is timed at most this often, and for at most about this many seconds.
ROUNDS, SECONDS = 5, 5.0
SLOWER = 1.1  # ratio to the time of float32 above which it is not noise
Maps = Tensor | list | tuple


class OptimizeError(ValueError):
    """The network cannot be optimized, or the result computes something else."""


def optimize(
    model: nn.Module,
    example: Maps,
    dtype: torch.dtype = torch.float32,
    compile: bool = True,
    labels_only: bool = False,
) -> Optimized:
    """Return a copy of a network that makes the same predictions faster.

    Batch norms are folded into their convolutions and maps use channels-last memory format. With
    ``compile``, PyTorch's compiler fuses convolutions with the operations after them and packs their
    weights for the processor. On a CPU, in float32, 3x3 convolutions use Winograd's algorithm where
    that is faster, if there is a C++ compiler (``mmdla.deploy.winograd.unavailable()`` says what is
    missing). In bfloat16, learned upsampling is computed by phases. The given model does not change.

    A lower precision is compared with the speed of float32 on ``example``, both without the compiler.
    If it is slower, like bfloat16 on processors without instructions for it, a warning says by how
    much.

    The copy has the inputs of the model, float32 and contiguous, and returns float32. ``predict``,
    ``test_step`` and inferencers of classifiers and segmentors work as before
    (``inferencer.model = optimize(inferencer.model, example)``); any other module returns the outputs
    of the model. With ``compile``, the first call and the first call with another size run the
    compiler; after that, all sizes run at once. The weights are fixed: to change them, load others into
    the model and optimize it again.

    Args:
        model (nn.Module): A backbone or other module of tensors, mmpretrain's ``ImageClassifier`` or
            mmseg's ``EncoderDecoder``.
        example (Tensor | list[Tensor]): Normalized images, (N, C, H, W), of the size to optimize for,
            on the model's device; for a neck, a list of maps.
        dtype (torch.dtype): Type of the computation: ``torch.float32``, ``torch.bfloat16``, or on a GPU
            ``torch.float16``. Default: ``torch.float32``.
        compile (bool): Use ``torch.compile``; on a CPU this needs a C++ compiler. Default: True.
        labels_only (bool): Let a segmentor predict ``pred_sem_seg`` without ``seg_logits``, so that
            logits of the image's size are not stored. Default: False.

    Returns:
        Optimized: A module in evaluation mode, for inference only; ``error`` is the largest difference
        from the model on ``example``, relative to the largest output.

    Raises:
        TypeError: If an argument has a wrong type.
        OptimizeError: If the network is not supported, or, in float32, if the outputs differ by more
            than 1e-4.

    Example:
        >>> import torch
        >>> from mmdla.deploy import optimize
        >>> from mmdla.models import DLA
        >>> backbone, x = DLA('46_c'), torch.rand(1, 3, 65, 97)
        >>> [tuple(level.shape) for level in optimize(backbone, x, compile=False)(x)]
        [(1, 64, 17, 25), (1, 64, 9, 13), (1, 128, 5, 7), (1, 256, 3, 4)]
    """
    adapter = _adapter(model)
    _check(model, example, dtype, labels_only, adapter)
    # In float32, errors can be distinguished from rounding. Its time is the one that dtype must beat.
    plain = None if dtype == torch.float32 else optimize(model, example, compile=False)
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    quick = adapter.build(copied, example, dtype, compile, labels_only)
    quick.error = _compare(model, quick, example, dtype)
    if plain is not None:
        _warn_if_slower(plain, quick, example, dtype)
    return quick


def _warn_if_slower(plain: Optimized, quick: Optimized, example: Maps, dtype: torch.dtype) -> None:
    """Time both without the compiler, alternately, after the runs of :func:`_compare`."""
    ratios: list[float] = []
    end = time.perf_counter() + SECONDS
    while not ratios or (len(ratios) < ROUNDS and time.perf_counter() < end):
        seconds = [timed(partial(m.network.uncompiled, example)) for m in (plain, quick)]
        ratios.append(seconds[1] / seconds[0])
    slowdown = statistics.median(ratios)
    if slowdown > SLOWER:
        warnings.warn(
            f'dtype={dtype} takes {slowdown:.1f} times as long as torch.float32 on the example '
            f'(median of {len(ratios)} alternating runs, without the compiler): this device is slow in '
            'it; dtype=torch.float32 is likely faster',
            stacklevel=3,
        )


def _check(
    model: nn.Module, example: Maps, dtype: torch.dtype, labels_only: bool, adapter: type
) -> None:
    maps = _tensors(example) if isinstance(example, Maps) else []
    if not maps or not all(isinstance(m, Tensor) for m in maps):
        raise TypeError(
            f'example={example!r}: must be a tensor, images (N, C, H, W), or a list of maps'
        )
    for m in maps:
        if m.ndim != 4 or m.dtype != torch.float32 or not m.numel():
            raise OptimizeError(
                f'example: must be float32 images (N, C, H, W); is {m.dtype}, {tuple(m.shape)}'
            )
    if dtype not in DTYPES:
        raise OptimizeError(f'dtype={dtype}: must be one of {", ".join(map(str, DTYPES))}')
    if dtype == torch.float16 and maps[0].device.type == 'cpu':
        raise OptimizeError('dtype=torch.float16: must be torch.float32 or torch.bfloat16 on a CPU')
    tensors = [*model.parameters(), *model.buffers()]
    devices = {t.device for t in tensors}
    if devices - {maps[0].device}:
        raise OptimizeError(
            f'example is on {maps[0].device}, the model on {", ".join(map(str, devices))}'
        )
    kinds = {p.dtype for p in model.parameters()} - {torch.float32}
    if kinds:
        raise OptimizeError(
            f'model: has parameters of {", ".join(map(str, kinds))}; pass the float32 one and dtype'
        )
    if labels_only and not issubclass(adapter, OptimizedSegmentor):
        raise OptimizeError(
            f'labels_only=True: {type(model).__name__} predicts no label maps; leave it out'
        )


def _adapter(model: nn.Module) -> type[Optimized]:
    """The class that optimizes a kind of model."""
    if not isinstance(model, nn.Module):
        raise TypeError(f'model={model!r}: must be a module')
    name = type(model).__name__
    if isinstance(model, Optimized):
        raise OptimizeError(f'model: {name} is optimized already')
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        raise OptimizeError(f'model: {name} wraps a network; pass model.module')
    if 'mmseg' in sys.modules:
        from mmseg.models import CascadeEncoderDecoder, EncoderDecoder

        if isinstance(model, EncoderDecoder) and not isinstance(model, CascadeEncoderDecoder):
            _check_head(model.decode_head)
            # Where it is not imported, the model is none.
            segmentors = sys.modules.get('mmdla.models.segmentors')
            if segmentors is not None and isinstance(model, segmentors.MultiScaleSegmentor):
                return OptimizedMultiScale
            return OptimizedSegmentor
    if 'mmpretrain' in sys.modules:
        from mmpretrain.models import ImageClassifier

        if isinstance(model, ImageClassifier):
            return OptimizedClassifier
    if hasattr(model, 'data_preprocessor'):
        raise OptimizeError(
            f'model: {name} is neither an ImageClassifier nor an EncoderDecoder; optimize its '
            'backbone: model.backbone = optimize(model.backbone, example)'
        )
    return OptimizedModule


def _check_head(head: nn.Module) -> None:
    """Raise OptimizeError for a decode head that overrides mmseg's ``predict``."""
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    if not isinstance(head, BaseDecodeHead) or type(head).predict is not BaseDecodeHead.predict:
        raise OptimizeError(
            f'model: its head, {type(head).__name__}, has its own predict method; optimize its '
            'backbone: model.backbone = optimize(model.backbone, example)'
        )


# -- the network itself ---------------------------------------------------------------------------


def _prepare(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Fold batch norms, replace slow layers, and convert; in place where possible."""
    part = revert_sync_batchnorm(part)
    for module in list(part.modules()):
        _fold_lists(module)
        _fold_activated(module)
    try:
        part = fuse_conv_bn(part)
    except TypeError as error:
        raise OptimizeError(
            'model: has a batch norm without weights or without statistics, which cannot be folded'
        ) from error
    on_cpu = all(p.device.type == 'cpu' for p in part.parameters())
    if dtype != torch.float32 and on_cpu:
        # PyTorch's depthwise transposed convolution takes ten times as long in bfloat16 there.
        part = _replace_upsampling(part)
    return part.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold_lists(module: nn.Module) -> None:
    """Fold the norms of Res2Net's cascade; mmcv misses them, since they are in a separate list."""
    convs, norms = getattr(module, 'convs', None), getattr(module, 'bns', None)
    if not (isinstance(convs, nn.ModuleList) and isinstance(norms, nn.ModuleList)):
        return
    for i, (conv, norm) in enumerate(zip(convs, norms)):
        if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d):
            convs[i] = fuse_conv_bn_eval(conv, norm)
            norms[i] = nn.Identity()


def _fold_activated(module: nn.Module) -> None:
    """Fold the norms of AFA's layers, which are in one layer with their activation."""
    if not isinstance(module, nn.Sequential) or len(module) != 2:
        return
    conv, activated = module
    if type(conv) is nn.Conv2d and isinstance(activated, nn.Sequential):
        norm = activated[0] if len(activated) else None
        if isinstance(norm, nn.BatchNorm2d):
            module[0], activated[0] = fuse_conv_bn_eval(conv, norm), nn.Identity()


def _replace_upsampling(module: nn.Module) -> nn.Module:
    if type(module) is LearnedUpsample:
        return PhaseUpsample(module)
    for name, child in module.named_children():
        setattr(module, name, _replace_upsampling(child))
    return module


class Network(nn.Module):
    """Runs a function of images in a given type and channels-last, without gradients.

    Args:
        function (Callable): Turns images into tensors, or tuples or lists of them.
        dtype (torch.dtype): Type of the computation.
        compile (bool): Use ``torch.compile``.
    """

    function: Callable

    def __init__(self, function: Callable, dtype: torch.dtype, compile: bool):
        super().__init__()
        # Not registered as a child: its parameters belong to the enclosing module.
        object.__setattr__(self, 'function', function)
        self.dtype = dtype
        self.compiled = compile
        # As one graph: after a graph break the compiler helps little, and does so silently.
        self.run = torch.compile(self._run, fullgraph=True, backend=backend) if compile else self._run

    def _run(self, x: Maps) -> Any:
        def convert(t: Tensor) -> Tensor:
            return t.to(dtype=self.dtype, memory_format=torch.channels_last)

        return _to_float(self.function(_each(x, convert)))

    def uncompiled(self, x: Maps) -> Any:
        """Run the function without the compiler."""
        with torch.no_grad(), _no_autocast(x):
            return self._run(x)

    def forward(self, x: Maps) -> Any:
        with torch.no_grad(), _no_autocast(x):
            if not self.compiled:
                return self.run(x)
            import torch._dynamo.config as dynamo
            import torch._inductor.config as inductor

            # The compiler reads them whenever it compiles. The limit counts the compilations of a
            # function, and all networks share this one.
            with inductor.patch(freezing=True), dynamo.patch(cache_size_limit=256):
                return self.run(x)


def _each(maps: Maps, function: Callable[[Tensor], Tensor]) -> Any:
    """A function's result for a map, or for each of several."""
    if isinstance(maps, Tensor):
        return function(maps)
    each = [_each(m, function) for m in maps]
    return type(maps)(*each) if hasattr(maps, '_fields') else type(maps)(each)


def _no_autocast(maps: Maps) -> AbstractContextManager:
    """Disable autocast, since the network has a fixed type."""
    return torch.autocast(_tensors(maps)[0].device.type, enabled=False)


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Disable TF32, which rounds the inputs of convolutions to ten bits on GPUs."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _to_float(out: Maps) -> Any:
    return _each(out, lambda t: t.float() if t.is_floating_point() else t)


def _tensors(maps: Maps) -> list[Tensor]:
    return [t for m in maps for t in _tensors(m)] if isinstance(maps, list | tuple) else [maps]


def _compare(model: nn.Module, quick: Optimized, example: Maps, dtype: torch.dtype) -> float:
    """Largest difference of the outputs on the example, relative to the largest output."""
    with eval_mode(model), torch.no_grad(), _no_tf32(), _no_autocast(example):
        wanted = _tensors(model(example))
    kinds = {type(t).__name__ for t in wanted if not isinstance(t, Tensor)}
    if kinds:
        raise OptimizeError(f'model: returns {", ".join(kinds)}; must be tensors, or lists of them')
    try:
        with _no_tf32():
            found = _tensors(quick.outputs(example))
    except torch._dynamo.exc.Unsupported as error:
        reason = str(error).strip().splitlines()[0]
        raise OptimizeError(
            f'model: the compiler cannot capture it as one graph ({reason}); use compile=False'
        ) from error
    # A tensor's maximum is NaN where one of its values is.
    differences = torch.stack(
        [(a.float() - b).abs().max() / b.abs().max().clamp(min=1e-12) for a, b in zip(found, wanted)]
    )
    largest = differences.max().item()
    if not all(t.isfinite().all() for t in wanted):
        raise OptimizeError('model: returns infinite values or NaN for the example')
    if not largest < (TOLERANCE if dtype == torch.float32 else float('inf')):
        raise OptimizeError(
            f'model: optimized, it differs on the example by {largest:.2g} of the largest output; in '
            f'{dtype} it must be finite, in float32 below {TOLERANCE}. Does it have a batch norm that '
            'does not follow the convolution that is defined before it?'
        )
    return largest


# -- the models -----------------------------------------------------------------------------------


class Optimized(nn.Module):
    """What :func:`optimize` returns.

    Attributes:
        error (float): The largest difference from the model's outputs on the example, relative to the
            largest output.
        network (Network): The function that is optimized.
    """

    error: float
    network: Network

    @classmethod
    def build(
        cls,
        model: nn.Module,
        example: Maps,
        dtype: torch.dtype,
        compile: bool,
        labels_only: bool,
    ) -> Optimized:
        """Optimize a copy of a model, which may be changed."""
        raise NotImplementedError

    def outputs(self, example: Any) -> Any:
        """The outputs to compare with the model's."""
        return self(example)

    def train(self, mode: bool = True) -> Optimized:
        """Raise RuntimeError for training mode, since the batch norms are folded."""
        if mode:
            raise RuntimeError(
                'the network is optimized for inference; train the original model instead'
            )
        return super().train(mode)


class OptimizedModule(Optimized):
    """A module of tensors, such as a backbone."""

    @classmethod
    def build(
        cls,
        model: nn.Module,
        example: Maps,
        dtype: torch.dtype,
        compile: bool,
        labels_only: bool,
    ) -> OptimizedModule:
        """Optimize a copy of a module, which may be changed."""
        self = cls()
        self.module = _prepare(model, dtype)
        self.network = Network(self.module, dtype, compile)
        replace_convolutions(self, lambda: self.network.uncompiled(example))
        return self.eval()

    def forward(self, x: Maps) -> Any:
        """The outputs of the module."""
        return self.network(x)


class _Reclassed(Optimized, BaseModel):
    """A copy of a model of another library, some of whose methods are replaced."""

    parts: tuple[str, ...]
    dtype: torch.dtype
    labels_only: bool

    def compile_networks(self, dtype: torch.dtype, compile: bool) -> None:
        """Set ``network``."""
        raise NotImplementedError

    @classmethod
    def build(
        cls,
        model: nn.Module,
        example: Maps,
        dtype: torch.dtype,
        compile: bool,
        labels_only: bool,
    ) -> _Reclassed:
        """Optimize a copy of a model, whose class changes to one that derives from both."""
        name = type(model).__name__
        for part in cls.parts:
            if getattr(model, part, None) is not None:
                setattr(model, part, _prepare(getattr(model, part), dtype))
        model.__class__ = type(f'Optimized{name}', (cls, type(model)), {})
        optimized = cast(_Reclassed, model)
        optimized.labels_only = labels_only
        optimized.dtype = dtype
        optimized.compile_networks(dtype, compile)
        replace_convolutions(optimized, lambda: optimized.network.uncompiled(example))
        return optimized


class OptimizedClassifier(_Reclassed):
    """mmpretrain's classifier; its head stays in float32."""

    parts = ('backbone', 'neck')
    head: Any

    def compile_networks(self, dtype: torch.dtype, compile: bool) -> None:
        """Make one network of backbone and neck."""
        self.network = Network(partial(super().extract_feat, stage='neck'), dtype, compile)

    def extract_feat(self, inputs: Tensor, stage: str = 'neck') -> Any:
        """As mmpretrain's method; the output of the neck comes from the optimized network."""
        if stage == 'neck':
            return self.network(inputs)
        if stage == 'pre_logits':
            return self.head.pre_logits(self.network(inputs))
        return _to_float(super().extract_feat(inputs.to(self.dtype), stage))


class OptimizedSegmentor(_Reclassed):
    """mmseg's ``EncoderDecoder`` without the auxiliary heads, which only training uses."""

    parts: tuple[str, ...] = ('backbone', 'neck', 'decode_head')
    decode_head: Any
    test_cfg: Any

    def compile_networks(self, dtype: torch.dtype, compile: bool) -> None:
        """Make networks of encoder and decoder that return logits, labels and probabilities."""
        self.auxiliary_head = None
        self.network = Network(super()._forward, dtype, compile)
        self.label_maps = Network(self._label_maps, dtype, compile)
        self.class_probabilities = Network(self._class_probabilities, dtype, compile)

    def outputs(self, example: Any) -> Any:
        """Logits; with ``labels_only`` they are not compiled, and compared with the compiled labels."""
        if not self.labels_only:
            return self(example)
        logits = self.network.uncompiled(example)
        wanted = self._labels_of(logits, tuple(example.shape[2:]))
        differing = (self.label_maps(example) != wanted).float().mean().item()
        if differing > 0.01 and self.dtype == torch.float32:
            raise OptimizeError(f'model: compiled, {100 * differing:.2g}% of the labels differ')
        return logits

    def _label_maps(self, x: Tensor) -> Tensor:
        return self._labels_of(_to_float(super()._forward(x)), tuple(x.shape[2:]))

    def _every_pixel(self, logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """The network's logits at the images' size."""
        return self.decode_head.predict_by_feat(logits, batch_img_metas)

    def _labels_of(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        logits = self._every_pixel(logits, [dict(img_shape=size)])
        if logits.shape[1] > 1:
            return logits.argmax(1, keepdim=True)
        return (logits.sigmoid() > self.decode_head.threshold).float()

    def _class_probabilities(self, x: Tensor) -> Tensor:
        logits = _to_float(super()._forward(x))
        return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()

    def _forward(self, inputs: Tensor, data_samples: list | None = None) -> Tensor:
        """Logits at the head's stride."""
        return self.network(inputs)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits of the images' size."""
        return self._every_pixel(self.network(inputs), batch_img_metas)

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Probabilities of the classes at the head's stride, (N, out_channels, h, w).

        Args:
            inputs (Tensor): Normalized images, (N, C, H, W).
        """
        return self.class_probabilities(inputs)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict like mmseg; with ``labels_only`` the samples get no ``seg_logits``.

        Args:
            inputs (Tensor): Normalized images, (N, C, H, W).
            data_samples (list[SegDataSample], optional): Samples to write to. Default: None, new ones.
        """
        if not self.labels_only:
            return super().predict(inputs, data_samples)
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        size = tuple(inputs.shape[2:])
        samples = data_samples or [SegDataSample() for _ in inputs]
        full_images = self.test_cfg.get('mode', 'whole') == 'whole'
        if full_images and all(_is_unchanged(sample.metainfo, size) for sample in samples):
            labels = self.label_maps(inputs)
            for sample, label in zip(samples, labels):
                sample.set_data(dict(pred_sem_seg=PixelData(data=label)))
            return samples
        # mmseg handles crops, flips and sizes, one image at a time.
        samples = super().predict(inputs, data_samples)
        for sample in samples:
            del sample.seg_logits
        return samples


class OptimizedMultiScale(OptimizedSegmentor):
    """``MultiScaleSegmentor``, whose network combines the scales at the images' size."""

    parts = (*OptimizedSegmentor.parts, 'scale_space_attn')

    def _every_pixel(self, logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        return logits


def _is_unchanged(meta: dict, size: tuple[int, ...]) -> bool:
    """Whether an image was neither padded, flipped nor resized, so that its labels need no change."""
    if not meta:
        return True
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    shapes = [tuple(meta.get(key, size)[:2]) for key in ('ori_shape', 'img_shape', 'pad_shape')]
    return not any(padding) and not meta.get('flip') and all(shape == size for shape in shapes)
