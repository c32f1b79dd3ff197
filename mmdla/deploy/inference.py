"""Networks made ready for inference: the same numbers in less time."""

from __future__ import annotations

import copy
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..analysis.timing import timed
from ..models.layers import LearnedUpsample
from ..utils.modes import evaluating
from .convolutions import backend, replace_convolutions
from .upsampling import PhaseUpsample

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TOLERANCE = 1e-4  # of float32, relative
# A lower precision is timed this often at most, and not again once so many seconds are over.
ROUNDS, SECONDS = 5, 5.0
SLOWER = 1.1  # times as long as float32: from here on it is no noise
Maps = Tensor | list | tuple


class OptimizeError(ValueError):
    """The network cannot be optimized, or what came out computes something else."""


def optimize(
    model: nn.Module,
    example: Maps,
    dtype: torch.dtype = torch.float32,
    compile: bool = True,
    labels_only: bool = False,
) -> nn.Module:
    """A copy of a network that predicts the same, faster.

    Batch norms are folded into their convolutions, maps are laid out channels-last, and with
    ``compile`` PyTorch's compiler fuses what follows a convolution into it, with the weights packed for
    the processor. On a CPU, in float32, 3x3 convolutions go by Winograd's algorithm where that is
    faster, if a C++ compiler is there (``mmdla.deploy.winograd.unavailable()`` tells what is missing);
    in bfloat16 learned upsampling goes by phases. The model given is left as it is.

    A lower precision is timed beside float32 on ``example``, both without the compiler, and where it
    takes longer, as bfloat16 does on processors without arithmetic for it, a warning says how much.

    The copy takes what the model takes, float32 and contiguous, and gives float32. A classifier's and a
    segmentor's ``predict``, ``test_step`` and inferencers work as before
    (``inferencer.model = optimize(inferencer.model, example)``); anything else is a module that returns
    what the model returns. The first call with ``compile`` takes the compiler's time, that with a
    second size as well; from then on every size runs. Its weights are fixed: load others into the model
    and optimize again.

    Args:
        model (nn.Module): A backbone or other module of tensors, mmpretrain's ``ImageClassifier`` or
            mmseg's ``EncoderDecoder``.
        example (Tensor | list[Tensor]): Normalized images, (N, C, H, W), of the size that is to be
            fast, on the model's device; for a neck, a list of maps.
        dtype (torch.dtype): What it computes in: ``torch.float32``, ``torch.bfloat16``, or on a GPU
            ``torch.float16``. Default: ``torch.float32``.
        compile (bool): Use ``torch.compile``; on a CPU this needs a C++ compiler. Default: True.
        labels_only (bool): For a segmentor: predict ``pred_sem_seg`` without ``seg_logits``, so that
            logits of the image's size need not be kept. Default: False.

    Returns:
        nn.Module: In evaluation mode, for inference only; ``error`` is the largest difference from the
        model on ``example``, relative to the largest output.

    Raises:
        TypeError: If an argument is of a wrong kind.
        OptimizeError: If the network is one that this cannot do, or, in float32, if the outputs differ
            by more than 1e-4.

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
    # In float32 a wrong number is told from a rounded one, and the time is known that dtype must beat.
    plain = None if dtype == torch.float32 else optimize(model, example, compile=False)
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    quick = adapter.build(copied, example, dtype, compile, labels_only)
    quick.error = _compare(model, quick, example, dtype)
    if plain is not None:
        _warn_if_slower(plain, quick, example, dtype)
    return quick


def _warn_if_slower(plain: Optimized, quick: Optimized, example: Maps, dtype: torch.dtype) -> None:
    """Time both without the compiler, in turn, after the runs of :func:`_compare`."""
    ratios: list[float] = []
    end = time.perf_counter() + SECONDS
    while not ratios or (len(ratios) < ROUNDS and time.perf_counter() < end):
        seconds = [timed(lambda m=m: m.network.uncompiled(example)) for m in (plain, quick)]
        ratios.append(seconds[1] / seconds[0])
    slowdown = statistics.median(ratios)
    if slowdown > SLOWER:
        warnings.warn(
            f'dtype={dtype} takes {slowdown:.1f} times as long as torch.float32 on the example '
            f'(median of {len(ratios)} in turn, without the compiler): this device is slow in it; '
            'dtype=torch.float32 is likely faster',
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
        raise OptimizeError('dtype=torch.float16: a CPU computes in float32 or torch.bfloat16')
    tensors = [*model.parameters(), *model.buffers()]
    devices = {t.device for t in tensors}
    if devices - {maps[0].device}:
        raise OptimizeError(
            f'example is on {maps[0].device}, the model on {", ".join(map(str, devices))}'
        )
    kinds = {p.dtype for p in model.parameters()} - {torch.float32}
    if kinds:
        raise OptimizeError(
            f'model: has parameters of {", ".join(map(str, kinds))}; give the float32 one and dtype=...'
        )
    if labels_only and not issubclass(adapter, OptimizedSegmentor):
        raise OptimizeError(
            f'labels_only=True: {type(model).__name__} predicts no label maps; leave it out'
        )


def _adapter(model: nn.Module) -> type[Optimized]:
    """Which class knows the parts of a model."""
    if not isinstance(model, nn.Module):
        raise TypeError(f'model={model!r}: must be a module')
    name = type(model).__name__
    if isinstance(model, Optimized):
        raise OptimizeError(f'model: {name} is optimized already')
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        raise OptimizeError(f'model: {name} wraps a network; give model.module')
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
    """Refuse a decode head that predicts in a way of its own."""
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    if not isinstance(head, BaseDecodeHead) or type(head).predict is not BaseDecodeHead.predict:
        raise OptimizeError(
            f'model: its head, {type(head).__name__}, predicts in a way of its own; optimize its '
            'backbone: model.backbone = optimize(model.backbone, example)'
        )


# -- the network itself ---------------------------------------------------------------------------


def _prepare(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Fold batch norms, replace what has a faster form, and convert; in place where possible."""
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
    return part.to(dtype=dtype, memory_format=torch.channels_last)


def _fold_lists(module: nn.Module) -> None:
    """Fold the norms of Res2Net's cascade, which mmcv does not see: they are in a list of their own."""
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
    """A function of images that runs in a type, channels-last, compiled or not, without gradients.

    Args:
        function (Callable): From images to tensors, or tuples or lists of them.
        dtype (torch.dtype): What it computes in.
        compile (bool): Use ``torch.compile``.
    """

    def __init__(self, function: Callable, dtype: torch.dtype, compile: bool):
        super().__init__()
        # Not a child: the module that it belongs to has the parameters already.
        object.__setattr__(self, 'function', function)
        self.dtype = dtype
        self.compile = compile
        # In one graph: where it breaks, the compiler helps little, and nothing says so.
        self.run = torch.compile(self._run, fullgraph=True, backend=backend) if compile else self._run

    def _run(self, x: Maps) -> Maps:
        kind = dict(dtype=self.dtype, memory_format=torch.channels_last)
        return _to_float(self.function(_each(x, lambda t: t.to(**kind))))

    def uncompiled(self, x: Maps) -> Maps:
        """What it computes, whether it is compiled or not."""
        with torch.no_grad(), _no_autocast(x):
            return self._run(x)

    def forward(self, x: Maps) -> Maps:
        with torch.no_grad(), _no_autocast(x):
            if not self.compile:
                return self.run(x)
            import torch._dynamo.config as dynamo
            import torch._inductor.config as inductor

            # The compiler reads them at the first call and whenever it meets another size. Its limit is
            # of a function, which all networks share.
            with inductor.patch(freezing=True), dynamo.patch(cache_size_limit=256):
                return self.run(x)


def _each(maps: Maps, function: Callable[[Tensor], Tensor]) -> Maps:
    """A function's result for a map, or for each of several."""
    if isinstance(maps, Tensor):
        return function(maps)
    each = [_each(m, function) for m in maps]
    return type(maps)(*each) if hasattr(maps, '_fields') else type(maps)(each)


def _no_autocast(maps: Maps) -> AbstractContextManager:
    """The network has a type of its own."""
    return torch.autocast(_tensors(maps)[0].device.type, enabled=False)


@contextmanager
def _no_tf32() -> Iterator[None]:
    """On GPUs that would round float32 to ten bits in convolutions, and folded weights otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _to_float(out: Maps) -> Maps:
    return _each(out, lambda t: t.float() if t.is_floating_point() else t)


def _tensors(maps: Maps) -> list[Tensor]:
    return [t for m in maps for t in _tensors(m)] if isinstance(maps, list | tuple) else [maps]


def _compare(model: nn.Module, quick: nn.Module, example: Maps, dtype: torch.dtype) -> float:
    """Largest difference of the outputs on the example, relative to the largest output."""
    with evaluating(model), torch.no_grad(), _no_tf32(), _no_autocast(example):
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
            f'model: the compiler cannot take it whole ({reason}); use compile=False'
        ) from error
    # A tensor's maximum is NaN where one of its values is.
    error = torch.stack(
        [(a.float() - b).abs().max() / b.abs().max().clamp(min=1e-12) for a, b in zip(found, wanted)]
    ).max()
    error = error.item()
    if not all(t.isfinite().all() for t in wanted):
        raise OptimizeError('model: gives infinite values or NaN on the example')
    if not error < (TOLERANCE if dtype == torch.float32 else float('inf')):
        raise OptimizeError(
            f'model: optimized, it differs on the example by {error:.2g} of the largest output; in '
            f'{dtype} it must be finite, in float32 below {TOLERANCE}. Does it have a batch norm that '
            'does not follow the convolution defined before it?'
        )
    return error


# -- what is around it ----------------------------------------------------------------------------


class Optimized:
    """Marks what :func:`optimize` returns; ``error`` is how far it is from the model."""

    error: float

    def outputs(self, example: Maps) -> Maps:
        """What is compared with the model's outputs."""
        return self(example)

    def train(self, mode: bool = True) -> nn.Module:
        """Refuse training: the batch norms are gone."""
        if mode:
            raise RuntimeError('optimized for inference; train the model that it was made from')
        return super().train(mode)


class OptimizedModule(Optimized, nn.Module):
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
        """Take over a copy."""
        self = cls()
        self.module = _prepare(model, dtype)
        self.network = Network(self.module, dtype, compile)
        replace_convolutions(self, lambda: self.network.uncompiled(example))
        return self.eval()

    def forward(self, x: Maps) -> Maps:
        """What the module returns."""
        return self.network(x)


class _Reclassed(Optimized):
    """A copy of a model of another library, some of whose methods are replaced."""

    parts: tuple[str, ...]

    @classmethod
    def build(
        cls,
        model: nn.Module,
        example: Tensor,
        dtype: torch.dtype,
        compile: bool,
        labels_only: bool,
    ) -> _Reclassed:
        """Take over a copy."""
        name = type(model).__name__
        for part in cls.parts:
            if getattr(model, part, None) is not None:
                setattr(model, part, _prepare(getattr(model, part), dtype))
        model.__class__ = type(f'Optimized{name}', (cls, type(model)), {})
        model.labels_only = labels_only
        model.dtype = dtype
        model.compile_networks(dtype, compile)
        replace_convolutions(model, lambda: model.network.uncompiled(example))
        return model


class OptimizedClassifier(_Reclassed):
    """mmpretrain's classifier; its head stays in float32."""

    parts = ('backbone', 'neck')

    def compile_networks(self, dtype: torch.dtype, compile: bool) -> None:
        """Backbone and neck as one network."""
        self.network = Network(partial(super().extract_feat, stage='neck'), dtype, compile)

    def extract_feat(self, inputs: Tensor, stage: str = 'neck') -> Maps:
        """mmpretrain's; the neck's output is the optimized one."""
        if stage == 'neck':
            return self.network(inputs)
        if stage == 'pre_logits':
            return self.head.pre_logits(self.network(inputs))
        return _to_float(super().extract_feat(inputs.to(self.dtype), stage))


class OptimizedSegmentor(_Reclassed):
    """mmseg's encoder and decoder, without the auxiliary heads, which are for training."""

    parts = ('backbone', 'neck', 'decode_head')

    def compile_networks(self, dtype: torch.dtype, compile: bool) -> None:
        """Encoder and decoder as one network; and with what turns the logits into labels."""
        self.auxiliary_head = None
        self.network = Network(super()._forward, dtype, compile)
        self.label_maps = Network(self._label_maps, dtype, compile)
        self.class_probabilities = Network(self._class_probabilities, dtype, compile)

    def outputs(self, example: Tensor) -> Tensor:
        """Logits; with ``labels_only`` not compiled, once the compiled labels agree with them."""
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
        """Logits of the images' size, of what the network computes."""
        return self.decode_head.predict_by_feat(logits, batch_img_metas)

    def _labels_of(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
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
        """mmseg's; with ``labels_only`` the samples get no ``seg_logits``.

        Args:
            inputs (Tensor): Normalized images, (N, C, H, W).
            data_samples (list[SegDataSample], optional): Where to write; else new ones.
        """
        if not self.labels_only:
            return super().predict(inputs, data_samples)
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        size = tuple(inputs.shape[2:])
        samples = data_samples or [SegDataSample() for _ in inputs]
        whole = self.test_cfg.get('mode', 'whole') == 'whole'
        if whole and all(_as_it_is(sample.metainfo, size) for sample in samples):
            labels = self.label_maps(inputs)
            for sample, label in zip(samples, labels):
                sample.set_data(dict(pred_sem_seg=PixelData(data=label)))
            return samples
        # Crops, flips and sizes of mmseg's, one image after the other.
        samples = super().predict(inputs, data_samples)
        for sample in samples:
            del sample.seg_logits
        return samples


class OptimizedMultiScale(OptimizedSegmentor):
    """``MultiScaleSegmentor``, whose network combines the scales at the images' size."""

    parts = (*OptimizedSegmentor.parts, 'scale_space_attn')

    def _every_pixel(self, logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        return logits


def _as_it_is(meta: dict, size: tuple[int, int]) -> bool:
    """Whether an image's labels are wanted as the network sees it: not padded, flipped or resized."""
    if not meta:
        return True
    padding = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    shapes = [tuple(meta.get(key, size)[:2]) for key in ('ori_shape', 'img_shape', 'pad_shape')]
    return not any(padding) and not meta.get('flip') and all(shape == size for shape in shapes)
