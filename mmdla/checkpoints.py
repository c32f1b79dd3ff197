"""Checkpoint formats: finds a network in a file, renames its entries and loads them.

This module knows names of entries, not modules. A network may be nested in containers or have a prefix
such as ``model.``, ``module.`` or ``backbone.base.``: it is found by the names of its own entries.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .io.checkpoint_files import (  # noqa: F401  all of them for others to import from here
    CheckpointError,
    extend_mmengine,
    load_for_mmengine,
    objects_in,
    read_checkpoint,
    state_dict_of,
)

AUTHORS_DLA = "authors' DLA classifier"
TIMM_DLA = "timm's DLA classifier"
AUTHORS_DLASEG = "authors' DLASeg"
AUTHORS_AFA = "authors' AFA-DLA"
AUTHORS_DRN = "authors' DRN classifier"
RESNET = 'ResNet classifier'  # the authors' DRN-A among them: it has ResNet's names and weights
AUTHORS_DRNSEG = "authors' DRNSeg"
MMDET3D_DLANET = "mmdet3d's DLANet"
CENTERNET = 'DLASeg of the CenterNet family'
BACKBONE = 'backbone'  # after the network's name: no classifier, or another model's backbone
# Heads of CenterNet, and what mmdet's CenterNetHead calls them.
CENTERNET_HEADS = dict(hm='heatmap_head', wh='wh_head', reg='offset_head')

# The layers of the released OCR: a convolution's number, the norm's being the next; and mmseg's names.
_CONTEXT = 'ocr_distri_head.object_context_block'
OCR_LAYERS = (
    ('conv3x3_ocr', 0, 'bottleneck'),
    ('aux_head', 0, 'aux_head.convs.0'),
    (f'{_CONTEXT}.f_pixel', 0, 'object_context_block.query_project.0'),
    (f'{_CONTEXT}.f_pixel', 2, 'object_context_block.query_project.1'),
    (f'{_CONTEXT}.f_object', 0, 'object_context_block.key_project.0'),
    (f'{_CONTEXT}.f_object', 2, 'object_context_block.key_project.1'),
    (f'{_CONTEXT}.f_down', 0, 'object_context_block.value_project'),
    (f'{_CONTEXT}.f_up', 0, 'object_context_block.out_project'),
    ('ocr_distri_head.conv_bn_dropout', 0, 'object_context_block.bottleneck'),
)
# How names of a released AFA-DLA begin, below `net.`, and what they are here. Normalization and
# activation are one layer there, hence `1.0`.
AFA_NAMES: tuple[tuple[str, str | Callable[[re.Match], str]], ...] = (
    (r'backbone\.afa_dla_up\.afa_(ida_\d+)\.(sa|ca)_(\d+)\.', r'neck.\1.node_\3.\2_1.'),
    (r'backbone\.afa_dla_up\.afa_(ida_\d+\.(proj|up)_\d+)\.', r'neck.\1.'),
    (r'backbone\.(proj_\d+|level_[sc]a)\.', r'neck.fusion.\1.'),
    (r'(scale_space_attn\.)', r'\1'),
    (r'(fc\.0|ocr\.cls_head)\.', 'decode_head.conv_seg.'),
    (r'ocr\.aux_head\.2\.', 'decode_head.aux_head.conv_seg.'),
    (r'fc_([1-9])\.0\.', lambda found: f'auxiliary_head.{int(found[1]) - 1}.conv_seg.'),
    *((rf'ocr\.{name}\.{i}\.(?=\w+$)', f'decode_head.{ours}.conv.') for name, i, ours in OCR_LAYERS),
    *((rf'ocr\.{name}\.{i + 1}\.0\.', f'decode_head.{ours}.bn.') for name, i, ours in OCR_LAYERS),
)
# Published files and whether they have InPlace-ABN, which their entries do not tell.
AFA_FILES = {
    'afa_dla_up_ocr_ssr_dla102x.ckpt': False,
    'afa_dla_up_ocr_ssr_dla102x_cv_3.ckpt': True,
    'afa_dla_up_ocr_ssr_dla169.ckpt': True,
    'afa_dla_up_dla34.ckpt': True,
    'afa_dla_up_dla34_hha.ckpt': True,
    'afa_dla_up_dla34_pascal.ckpt': True,
}
ABN_EPS = 1e-5  # what InPlace-ABN adds to the absolute value of a scale

# Entries by which each network is recognized. The layers of a sequence are named by numbers.
MARKS = (
    ('DLA', ('base_layer.0.weight',)),
    ('DRN', ('layer0.0.weight', 'layer8.0.weight')),
    ('DRN', ('conv1.weight', 'bn1.weight', 'layer4.0.conv1.weight')),
    ('sequence', ('0.0.weight', '8.0.weight')),
    ('sequence', ('0.weight', '7.0.conv1.weight')),
)
LAYERS = dict(DLA=r'(base_layer|level\d)\.', DRN=r'(conv1|bn1|layer\d)\.')
CLASSIFIER = {'fc.weight', 'fc.bias'}

# Why entries are left out.
UNUSED = 'computed by the released code, but not used'
FIXED = 'fixed bilinear upsampling, which needs no weights here'
FOLDED = 'a bias that the batch norm after it cancels, folded into its mean'
OLD_CLASSIFIER = 'the classifier of the pretrained backbone'
NOT_BUILT = 'classifier or levels that this network does not build'
COPY = 'another copy of the weights'
OTHER_SHAPE = 'of another shape'
UNEXPECTED = 'not of this network'
NO_COUNTERPART = 'no counterpart here'


class IncompleteError(CheckpointError):
    """A checkpoint has only a part of a network; the message says what is missing."""


@dataclass
class LoadReport:
    """Says for every tensor in a file whether it was loaded, and if not, why.

    Attributes:
        source (str): The file.
        prefix (str): Prefix of the network's names in the file.
        loaded (list[str]): Entries that were loaded under their own names.
        converted (list[str]): Entries that were loaded under other names.
        left_out (dict[str, list[str]]): The other entries, by reason.
        missing (list[str]): Parameters of the network that the file lacks or has in another shape.
        remarks (list[str]): Likely mistakes, a sentence each.
        inplace_abn (bool, optional): Whether an AFA-DLA was trained with InPlace-ABN, if known.
    """

    source: str
    prefix: str = ''
    loaded: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    inplace_abn: bool | None = None

    def leave_out(self, keys: Iterable[str], reason: str) -> None:
        for key in keys:
            self.left_out.setdefault(reason, []).append(key)

    @property
    def total(self) -> int:
        """Number of tensors in the file."""
        return len(self.loaded) + len(self.converted) + sum(map(len, self.left_out.values()))

    def modules(self, keys: Iterable[str]) -> dict[str, int]:
        """Number of the given entries in each module of the network."""
        return Counter(_module_of(key, self.prefix) for key in keys)

    def summary(self) -> str:
        """One line with the counts, and one line for each reason to leave entries out."""
        counts = [f'{len(self.loaded)} loaded'] if self.loaded else []
        counts += [f'{len(self.converted)} converted'] if self.converted else []
        counts.append(f'{self.total - len(self.loaded) - len(self.converted)} left out')
        below = f' below {self.prefix!r}' if self.prefix else ''
        lines = [f'{self.source}: {self.total} entries{below}: {", ".join(counts)}']
        for reason, keys in self.left_out.items():
            lines.append(
                f'left out, {reason}: {_listed(f"{m} ({n})" for m, n in self.modules(keys).items())}'
            )
        if self.missing:
            lines.append(f'missing, and initialized: {_listed(self.missing)}')
        lines += self.remarks
        return '\n  '.join(lines)


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more


def _module_of(key: str, prefix: str) -> str:
    """The module of an entry: the first part of its name after the network's prefix."""
    if key.startswith(prefix):
        within = re.search(r'(^|\W)base\.$', prefix) is not None
        return f'{"base." if within else ""}{key[len(prefix) :].split(".")[0]}'
    parts, before = key.split('.'), prefix.split('.')
    return next(part for part, other in zip(parts, [*before, *parts]) if part != other)


def entries_of(content: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Collect the tensors in nested mappings and lists by their paths, with dots between the parts.

    Returns:
        tuple: The tensors, and for each the path of the mapping that contains it.
    """
    tensors: dict[str, Tensor] = {}
    roots: dict[str, str] = {}
    seen = {id(content)}
    left = deque([('', content)])
    while left:
        root, held = left.popleft()
        for key, value in held.items() if isinstance(held, Mapping) else enumerate(held):
            name = f'{root}{key}'
            if isinstance(value, Tensor):
                while name in tensors:
                    name += "'"
                tensors[name], roots[name] = value, root
            elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
                seen.add(id(value))
                left.append((f'{name}.', value))
    return tensors, roots


@dataclass
class Converted:
    """A released checkpoint in this project's names.

    Attributes:
        format (str): Format of the file.
        state_dict (dict[str, Tensor]): Backbone under ``backbone.``, the rest under the name that
            the model of mmpretrain, mmseg or mmdet gives it; a backbone alone without any prefix.
        network (dict[str, Tensor]): The backbone's part, without prefix.
        backbone (str): ``'DLA'`` or ``'DRN'``, the network that ``network`` belongs to.
        names (dict[str, str]): For each name in ``state_dict`` that of the entry in the file.
        report (LoadReport): Says for every entry whether it was converted.
        left_out (tuple[str, ...]): Modules that have no counterpart here, except those that the
            released code does not use either.
        down_ratio (int | None): Output stride of a segmentation network or a detector.
        num_classes (int | None): Classes of its classifier.
    """

    format: str
    state_dict: dict[str, Tensor]
    network: dict[str, Tensor]
    backbone: str
    names: dict[str, str]
    report: LoadReport
    left_out: tuple[str, ...] = ()
    down_ratio: int | None = None
    num_classes: int | None = None

    @property
    def inplace_abn(self) -> bool:
        """Whether its batch norms were converted from InPlace-ABN."""
        return bool(self.report.inplace_abn)


def convert_released(
    checkpoint: Mapping, source: str = 'checkpoint', inplace_abn: bool | None = None
) -> Converted:
    """Find a released network in a checkpoint by its names, and rename its entries for this project.

    Args:
        checkpoint (Mapping): Content of the file, see :func:`read_checkpoint`, or a state dict.
        source (str): Its name, for messages.
        inplace_abn (bool, optional): Whether an AFA-DLA was trained with InPlace-ABN in place of batch
            norm and ReLU, which its entries do not tell. If so, the scales become ``|weight| + eps``,
            and the network to load it into needs ``act_cfg=dict(type='LeakyReLU',
            negative_slope=0.01)``. Default: as published, for files that ``source`` names as these are
            (``AFA_FILES``); otherwise False, with a remark in the report if a scale is negative.

    Returns:
        Converted: The result; the input does not change.

    Raises:
        CheckpointError: If it has none of the known formats.
    """
    tensors, roots = entries_of(checkpoint)
    found = _recognise(tensors, roots, source, inplace_abn)
    if found is None:
        raise CheckpointError(
            f"{source}: neither an authors' DLA, DLASeg, AFA-DLA, DRN or DRNSeg checkpoint, nor timm's "
            "DLA, nor a ResNet with torchvision's names, nor mmdet3d's DLANet, nor a DLASeg of the "
            f'CenterNet family, nor a model with such a backbone (its keys: '
            f'{_listed(tensors or map(str, checkpoint), 6)}){"" if tensors else objects_in(checkpoint)}'
        )
    return found


def _recognise(
    tensors: dict[str, Tensor], roots: dict[str, str], source: str, inplace_abn: bool | None = None
) -> Converted | None:
    for kind, (first, *others) in MARKS:
        for key in tensors:
            if key == first or key.endswith(f'.{first}'):
                prefix = key.removesuffix(first)
                if all(prefix + other in tensors for other in others):
                    return _convert(tensors, roots, kind, prefix, roots[key], source, inplace_abn)
    return None


def _convert(
    tensors: dict[str, Tensor],
    roots: dict[str, str],
    kind: str,
    prefix: str,
    root: str,
    source: str,
    inplace_abn: bool | None,
) -> Converted:
    """Rename the entries of the network below a prefix and of its decoder or head.

    The released segmentation networks and detectors based on them call the backbone ``base``.
    """
    within = re.search(r'(^|\.)base\.$', prefix) is not None
    outer = prefix.removesuffix('base.') if within else prefix
    under = {k[len(prefix) :]: k for k in tensors if k.startswith(prefix)}
    beside = {k[len(outer) :]: k for k in tensors if k.startswith(outer) and not k.startswith(prefix)}
    layers = _sequence_layers(under, source) if kind == 'sequence' else under
    backbone = 'DLA' if kind == 'DLA' else 'DRN'
    mmdet3d = any(name.endswith('.root.norm.weight') for name in under)
    network = {name: key for name, key in layers.items() if re.match(LAYERS[backbone], name)}
    dead = _dead(network, backbone)
    network = {
        re.sub(r'\bnorm(\d?)\.', r'bn\1.', name) if mmdet3d else name: key
        for name, key in network.items()
        if name not in dead
    }
    report = LoadReport(source, prefix)
    report.leave_out((layers[name] for name in sorted(dead)), UNUSED)

    # If there are weights beside it, the network is the backbone of another model.
    weights = (k for k, r in roots.items() if r == root and k.endswith(('.weight', '.bias')))
    alone = all(k.startswith(prefix) or (within and k[len(outer) :] in CLASSIFIER) for k in weights)
    fc = beside if within and beside.keys() >= CLASSIFIER else under
    rest: dict[str, str] = {}
    form, classes = '', ''
    down_ratio = None
    parts = {name.split('.')[0] for name in beside}
    if within and kind == 'DLA' and 'afa_dla_up' in parts:
        # The heads are beside the backbone, the decoder within it.
        form, outer = AUTHORS_AFA, outer.removesuffix('backbone.')
        beside = {k[len(outer) :]: k for k in tensors if k.startswith(outer)}
        classes = 'fc.0.bias' if 'fc.0.bias' in beside else 'ocr.cls_head.bias'
        rest = _afa_names(beside)
    elif within and kind == 'DLA' and {'fc.0.weight', 'fc.0.bias'} <= beside.keys():
        form, classes = AUTHORS_DLASEG, 'fc.0.bias'
        rest = {f'decode_head.{k}': k for k in beside if k.startswith('dla_up.')}
        rest |= {f'decode_head.conv_seg.{n}': f'fc.0.{n}' for n in ('weight', 'bias')}
    elif within and kind == 'DLA' and {'dla_up', 'ida_up'} <= parts and _has_our_neck(beside):
        form, classes = CENTERNET, 'hm.2.bias'
        ups = [k for k in beside if k.startswith(('dla_up.', 'ida_up.'))]
        rest = {f'neck.{_centernet_name(k, source)}': k for k in ups}
        rest |= _centernet_heads({name: tensors[key] for name, key in beside.items()})
    elif kind == 'sequence' and {'seg.weight', 'seg.bias'} <= beside.keys():
        form, classes = AUTHORS_DRNSEG, 'seg.bias'
        rest = {f'decode_head.conv_seg.{n}': f'seg.{n}' for n in ('weight', 'bias')}
    if form:
        down_ratio = 8 if backbone == 'DRN' else _down_ratio(beside)
        rest = {name: beside[key] for name, key in rest.items()}
        if form != CENTERNET:
            fixed = (k for name, k in beside.items() if re.fullmatch(r'up(_\d+)?\.weight', name))
            report.leave_out(fixed, FIXED)
        classes = beside[classes] if classes in beside and beside[classes] in rest.values() else ''
    elif mmdet3d:
        form = MMDET3D_DLANET
    elif alone and fc.keys() >= CLASSIFIER:
        rest = {f'head.{name}': fc[name] for name in ('fc.weight', 'fc.bias')}
        classes = fc['fc.bias']
        if backbone == 'DLA':
            form = AUTHORS_DLA if dead else TIMM_DLA
        else:
            form = AUTHORS_DRN if any(k.startswith('layer8.') for k in network) else RESNET
    else:
        form = f'{backbone} {BACKBONE}'
    start = 'backbone.' if rest else ''
    names = {f'{start}{name}': key for name, key in network.items()} | rest
    state_dict = {name: _value(name, tensors[key]) for name, key in names.items()}
    if form == AUTHORS_AFA:
        report.inplace_abn = _convert_norms(state_dict, names, report, inplace_abn)
    old = {under[name] for name in CLASSIFIER & under.keys()}.difference(rest.values())
    report.leave_out(sorted(old), OLD_CLASSIFIER)
    report.converted = list(names.values())
    others = set(tensors).difference(report.converted, *report.left_out.values())
    report.leave_out((key for key in tensors if key in others), NO_COUNTERPART)
    left = report.left_out.get(NO_COUNTERPART, ())
    return Converted(
        form,
        state_dict,
        {name: tensors[key] for name, key in network.items()},
        backbone,
        names,
        report,
        tuple(sorted(report.modules(k for k in left if roots[k] == root))),
        down_ratio,
        tensors[classes].numel() if classes else None,
    )


def _afa_names(names: Iterable[str]) -> dict[str, str]:
    """By our names, entries of a released AFA-DLA but for its backbone's."""
    found = {}
    for name in names:
        renamed = (re.subn(f'^{pattern}', ours, name) for pattern, ours in AFA_NAMES)
        ours = next((new for new, count in renamed if count), None)
        if ours is not None:
            found[ours] = name
    return found


def _convert_norms(
    state_dict: dict[str, Tensor],
    names: dict[str, str],
    report: LoadReport,
    inplace_abn: bool | None,
) -> bool | None:
    """Make plain batch norms, in place, of what an AFA-DLA has beside its backbone.

    InPlace-ABN has the scale ``|weight| + eps``. Biases before a norm, which mmseg's OCR layers do not
    have, are subtracted from its mean.

    Returns:
        bool | None: Whether they were InPlace-ABN's, if the argument or the file's name says so.
    """
    if inplace_abn is None:
        name = re.search(r'afa_dla_up\w*\.ckpt', report.source)
        inplace_abn = AFA_FILES.get(name[0]) if name else None
    means = [n for n in names if n.endswith('.running_mean') and not n.startswith('backbone.')]
    norms = [name.removesuffix('running_mean') for name in means]
    negative = [n for n in norms if (state_dict[f'{n}weight'] < 0).any()]
    if negative and inplace_abn is None:
        report.remarks.append(
            f'{len(negative)} batch norms have negative weights '
            f'({_listed((n.rstrip(".") for n in negative), 2)}), a sign of InPlace-ABN, whose scales '
            'are absolute values: if it was trained with it, load or convert it with inplace_abn=True, '
            'otherwise with inplace_abn=False'
        )
    for norm in norms:
        if inplace_abn:
            state_dict[f'{norm}weight'] = state_dict[f'{norm}weight'].abs() + ABN_EPS
        bias = f'{norm.removesuffix("bn.")}conv.bias'
        if bias in names:
            mean = f'{norm}running_mean'
            state_dict[mean] = state_dict[mean] - state_dict.pop(bias)
            report.leave_out([names.pop(bias)], FOLDED)
    return inplace_abn


def _value(name: str, value: Tensor) -> Tensor:
    """Most files have a 1x1 convolution as classifier; mmpretrain has a linear layer."""
    return value.flatten(1) if name.endswith('head.fc.weight') and value.ndim > 1 else value


def _dead(names: Iterable[str], backbone: str) -> set[str]:
    """Entries of layers whose outputs the released networks do not use.

    These are the projections of trees that contain trees, and the shortcuts of DRN-C-58's last levels,
    which are not added.
    """
    if backbone == 'DRN':
        return {name for name in names if re.match(r'layer[78]\.0\.downsample\.', name)}
    # A tree holds trees where its first subtree has a subtree, at any depth: matches overlap.
    trees = {k[: m.start()] for k in names for m in re.finditer(r'(?=\btree1\.tree1\.)', k)}
    return {name for name in names if name.startswith(tuple(f'{tree}project.' for tree in trees))}


def _sequence_layers(under: Mapping[str, str], source: str) -> dict[str, str]:
    """Names of a DRN whose layers are numbered, as its network registers them."""
    if '0.0.weight' in under:  # D: layers 0 to 8
        layers = {i: f'layer{i}' for i in range(9)}
    else:  # conv1, bn1, the activation, in A the pooling, the levels
        layers = {0: 'conv1', 1: 'bn1'}
        pooled = not any(name.startswith('3.') for name in under)
        start = 4 if pooled else 3
        layers |= {start + i: f'layer{i + 1}' for i in range(4 if pooled else 8)}
    parts = {name.split('.')[0] for name in under}
    numbers = {int(part) for part in parts if re.fullmatch('[0-9]{1,9}', part)}
    if numbers - layers.keys():
        raise CheckpointError(
            f'{source}: was taken for {AUTHORS_DRNSEG}, but has layers base.'
            f'{sorted(numbers - layers.keys())} that no DRN has'
        )
    split = ((key, *name.partition('.')) for name, key in under.items())
    return {
        f'{layers[int(n)]}.{rest}': key for key, n, _, rest in split if re.fullmatch('[0-9]{1,9}', n)
    }


def _down_ratio(names: Iterable[str]) -> int:
    """Output stride, from the number of nested aggregations."""
    steps = (re.match(r'(backbone\.afa_)?dla_up\.(\w+)\.', name) for name in names)
    return 2 ** (5 - len({step[2] for step in steps if step}))


def _has_our_neck(names: Iterable[str]) -> bool:
    """Whether its convolutions have biases and batch norm; SMOKE's and others have other layers."""
    ends = ('.conv.bias', '.running_mean')
    ups = [name for name in names if name.startswith(('dla_up.', 'ida_up.'))]
    return all(any(name.endswith(end) for name in ups) for end in ends)


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


def _centernet_heads(beside: Mapping[str, Tensor]) -> dict[str, str]:
    """Names in mmdet of the heads of heatmap, size and offset; empty unless they fit CenterNetHead."""
    heads: dict[str, str] = {}
    for name, ours in CENTERNET_HEADS.items():
        found = {k[len(name) + 1 :]: k for k in beside if k.startswith(f'{name}.')}
        if found.keys() != {'0.weight', '0.bias', '2.weight', '2.bias'}:
            return {}
        # FairMOT's sizes are the distances to four sides.
        if name != 'hm' and beside[found['2.bias']].numel() != 2:
            return {}
        heads |= {f'bbox_head.{ours}.{k}': key for k, key in found.items()}
    return heads


def rename_classifier(state_dict: dict[str, Tensor], prefix: str = '') -> None:
    """Rename, in place, the entries of a released classifier to those of mmpretrain's classifier.

    Any other state dict does not change.

    Args:
        state_dict (dict[str, Tensor]): Changed in place.
        prefix (str): Prefix of the classifier's names. Default: ``''``.
    """
    state = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    # Below `backbone.` stand the parameters of mmpretrain's own classifier.
    if any(k.startswith('backbone.') for k in state):
        return
    found = _recognise(state, dict.fromkeys(state, ''), 'checkpoint')
    forms = (AUTHORS_DLA, TIMM_DLA, AUTHORS_DRN, RESNET)
    if found is None or found.left_out or not found.format.endswith((*forms, BACKBONE)):
        return
    # What is not the network's stays, to be reported.
    dead = found.report.left_out.get(UNUSED, ())
    for key in (*found.names.values(), *dead):
        del state_dict[prefix + key]
    for name, value in found.state_dict.items():
        state_dict[
            f'{prefix}{"" if name.startswith(("backbone.", "head.")) else "backbone."}{name}'
        ] = value


def split_pretrained(init_cfg: dict | list[dict] | None) -> tuple[dict | None, list[dict] | None]:
    """Split ``init_cfg`` into the arguments of its ``Pretrained`` entry and the others.

    Raises:
        ValueError: If it has several ``Pretrained`` entries.
    """
    entries = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or ())
    ours = [e for e in entries if _is_pretrained(e)]
    if len(ours) > 1:
        raise ValueError(f'init_cfg has {len(ours)} Pretrained entries; give one')
    others = [e for e in entries if not _is_pretrained(e)]
    return ({k: v for k, v in ours[0].items() if k != 'type'} if ours else None), others or None


def _is_pretrained(entry: dict) -> bool:
    return getattr(entry['type'], '__name__', entry['type']) in ('Pretrained', 'PretrainedInit')


def _fit(
    own: Mapping[str, Tensor],
    content: Mapping,
    source: str,
    network: str,
    prefix: str | None = None,
    unused: tuple[str, ...] = (),
    strict: bool = True,
    inplace_abn: bool | None = None,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Select the entries of a checkpoint that belong to a network, under the network's names.

    Among all prefixes in the file, before and after conversion, the one with the most names is taken.

    Args:
        own (Mapping[str, Tensor]): The network's state dict.
        content (Mapping): Content of the file.
        source (str): Its name, for messages.
        network (str): Description of the network, for messages.
        prefix (str, optional): Prefix of the names. Default: None, the file is searched.
        unused (tuple[str, ...]): Prefixes of names of released networks that this one does not have.
        strict (bool): Whether the network must be complete.
        inplace_abn (bool, optional): See :func:`convert_released`.

    Raises:
        CheckpointError: If no name is found or, with ``strict``, not all are.
    """
    tensors, roots = entries_of(content)
    views = [{key: key for key in tensors}]
    dropped: dict[str, str] = {}
    try:
        found = _recognise(tensors, roots, source, inplace_abn)
    except CheckpointError:  # a decoder without a counterpart, say; the backbone has its own names
        found = None
    if found is not None:
        views.append(found.names)
        reasons = (UNUSED, FIXED, FOLDED, OLD_CLASSIFIER)
        dropped = {k: r for r in reasons for k in found.report.left_out.get(r, ())}
    counts: Counter[str] = Counter()
    names, at = views[0], ''
    for view in views:
        here = Counter(
            name[:i]
            for name in view
            for i in (0, *(m.end() for m in re.finditer(r'\.', name)))
            if name[i:] in own and _is_below(name[:i], prefix, roots.get(name, ''))
        )
        if here and max(here.values()) > max(counts.values(), default=0):
            counts, names, at = here, view, max(here, key=lambda place: here[place])
    if not counts:
        raise CheckpointError(
            f'{source}: none of its parameters is one of {network}'
            + (f' below prefix={prefix!r}' if prefix else '')
            + f' (its keys: {_listed(tensors or map(str, content), 6)})'
            + ('' if tensors else objects_in(content))
        )
    report = LoadReport(source, at)
    values = tensors
    if found is not None and names is not views[0]:
        report.prefix, report.remarks = found.report.prefix, found.report.remarks
        report.inplace_abn = found.report.inplace_abn
        values = {key: found.state_dict[name] for name, key in names.items()}
    state: dict[str, Tensor] = {}
    lacking = []
    for name, value in own.items():
        key = names.get(f'{at}{name}')
        if key is None:
            if not name.endswith('num_batches_tracked'):  # old files have none
                lacking.append(f'{name} (missing)')
            continue
        given = _value(name, values[key])
        if given.shape == value.shape:
            state[name] = given
            (report.loaded if key.endswith(name) else report.converted).append(key)
        else:
            report.leave_out([key], OTHER_SHAPE)
            lacking.append(f'{name} (is {tuple(given.shape)}, must be {tuple(value.shape)})')
    report.missing = lacking
    if lacking and strict:
        raise IncompleteError(
            f'{source}: of another network than the model; {_listed(lacking, 3)}: the file lacks '
            f'{len(lacking)} of the {len(own)} entries of {network}, or has them in another shape'
        )
    copies = tuple(p for p, n in counts.items() if p != at and n == counts[at])
    renamed = {key: name for name, key in names.items()}
    done = {*report.loaded, *report.converted, *report.left_out.get(OTHER_SHAPE, ())}
    for key in tensors:
        view_name = renamed.get(key, '')
        inside = key in renamed and view_name.startswith(at)
        if key in done:
            continue
        if key in dropped:
            reason = dropped[key]
        elif inside and unused and view_name[len(at) :].startswith(unused):
            reason = NOT_BUILT
        elif copies and key in renamed and view_name.startswith(copies):
            reason = COPY
        elif inside and names is views[0]:
            reason = UNEXPECTED
        else:
            reason = NO_COUNTERPART
        report.leave_out([key], reason)
    return state, report


def _is_below(place: str, prefix: str | None, root: str) -> bool:
    """Whether a place in a file matches a prefix."""
    if prefix is None:
        return True
    return place.removeprefix(root) == (f'{prefix.rstrip(".")}.' if prefix else '')


def _log(report: LoadReport, name: str) -> None:
    from mmengine.logging import print_log

    odd = report.missing or report.remarks or UNEXPECTED in report.left_out
    print_log(f'{name}: {report.summary()}', logger='current', level=30 if odd else 20)


def load_pretrained(
    module: nn.Module,
    checkpoint: str,
    prefix: str | None = None,
    map_location: str | None = None,
    strict: bool = True,
    inplace_abn: bool | None = None,
) -> LoadReport:
    """Load published weights or your own into a backbone, and log how each entry was used.

    Args:
        module (nn.Module): The backbone.
        checkpoint (str): Path or address. mmengine reads schemes other than ``http(s)://`` and
            ``file://``, such as ``torchvision://resnet50``.
        prefix (str, optional): Prefix of its parameters in the file. Default: None, the file is
            searched.
        map_location (str, optional): Device to read to. Default: ``'cpu'``.
        strict (bool): Raise an error if the file lacks parameters of the backbone or has them in
            another shape. Otherwise these keep their initialization and are named in the log.
            Default: True.
        inplace_abn (bool, optional): See :func:`convert_released`.

    Returns:
        LoadReport: Says for each entry whether it was loaded.

    Raises:
        FileNotFoundError, CheckpointError: If the file is not a checkpoint, see
            :func:`read_checkpoint`, or has no parameter of the module; with ``strict``, also if one
            is missing or has another shape.
    """
    if re.match(r'(?!https?:|file:)[\w+-]+://', checkpoint):
        from mmengine.runner import CheckpointLoader

        content = CheckpointLoader.load_checkpoint(checkpoint, map_location or 'cpu')
    else:
        content = read_checkpoint(checkpoint, map_location or 'cpu')
    unused: tuple[str, ...] = getattr(module, 'dropped', tuple)()
    name = type(module).__name__
    source = f'checkpoint {checkpoint!r}'
    state, report = _fit(
        module.state_dict(), content, source, name, prefix, unused, strict, inplace_abn
    )
    module.load_state_dict(state, strict=False)
    _log(report, name)
    return report


def _fit_model(
    model: nn.Module,
    checkpoint: Mapping,
    source: str,
    strict: bool = True,
    inplace_abn: bool | None = None,
) -> tuple[dict[str, Tensor], LoadReport]:
    name = f'the model, {type(model).__name__}'
    backbone = getattr(model, 'backbone', None)
    if backbone is not None:
        name += f' with {type(backbone).__name__}'
    dropped: tuple[str, ...] = getattr(backbone, 'dropped', tuple)()
    unused = tuple(f'backbone.{start}' for start in dropped)
    state, report = _fit(
        model.state_dict(), checkpoint, source, name, None, unused, strict, inplace_abn
    )
    if report.inplace_abn is None:  # of a file that convert_released.py has written
        meta = checkpoint.get('meta')
        report.inplace_abn = meta.get('inplace_abn') if isinstance(meta, Mapping) else None
    if report.inplace_abn is not None:
        _check_activation(model, report)
    return state, report


def _check_activation(model: nn.Module, report: LoadReport) -> None:
    """Remark if a model's activations are not those that an AFA-DLA was trained with."""
    relu, leaky = (nn.ReLU, 'ReLU'), (nn.LeakyReLU, 'LeakyReLU')
    (other, name), (_, wanted) = (relu, leaky) if report.inplace_abn else (leaky, relu)
    beside = [m for path, m in model.named_modules() if not path.startswith('backbone.')]
    count = sum(isinstance(m, other) for m in beside)
    if count:
        negative_slope = ', negative_slope=0.01' if report.inplace_abn else ''
        report.remarks.append(
            f'the weights were trained {"with" if report.inplace_abn else "without"} InPlace-ABN, but '
            f'{count} activations of the model beside its backbone are {name}: predictions '
            f"will be wrong; use act_cfg=dict(type='{wanted}'{negative_slope}) in the neck, "
            'the heads and the attention to scales'
        )


def weights_for(
    model: nn.Module,
    checkpoint: Mapping,
    source: str,
    strict: bool = True,
    inplace_abn: bool | None = None,
) -> dict[str, Tensor]:
    """Select the weights of a complete model from a checkpoint, under the model's names.

    The log says for each entry of the file whether it is used.

    Args:
        model (nn.Module): A model of mmpretrain or mmseg to compare with; it does not change.
        checkpoint (Mapping): From :func:`read_checkpoint`. The authors' networks are converted.
        source (str): Its name, for messages.
        strict (bool): Whether the file must have all weights of the model. Default: True.
        inplace_abn (bool, optional): See :func:`convert_released`.

    Raises:
        CheckpointError: If it holds no weights of the model; with ``strict``, also if weights are
            missing or have another shape.
    """
    state, report = _fit_model(model, checkpoint, source, strict, inplace_abn)
    _log(report, type(model).__name__)
    return state


def load_model(
    model: nn.Module, checkpoint: Mapping, source: str, inplace_abn: bool | None = None
) -> LoadReport:
    """Load a checkpoint that must have exactly the weights of a model.

    Args:
        model (nn.Module): A model of mmpretrain or mmseg.
        checkpoint (Mapping): From :func:`read_checkpoint`.
        source (str): Its name, for messages.
        inplace_abn (bool, optional): See :func:`convert_released`.

    Returns:
        LoadReport: Says for each entry whether it was loaded.

    Raises:
        CheckpointError: See :func:`weights_for`; also if it has parameters that the model does not
            have.
    """
    state, report = _fit_model(model, checkpoint, source, inplace_abn=inplace_abn)
    more = report.left_out.get(UNEXPECTED, ())
    if more:
        shown = _listed((f'{k.removeprefix(report.prefix)} (not in the model)' for k in more), 3)
        raise CheckpointError(f'{source}: of another network than the model; {shown}')
    model.load_state_dict(state, strict=False)
    _log(report, type(model).__name__)
    return report
