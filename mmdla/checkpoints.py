"""Checkpoint formats: finds a network in a file, renames its entries and loads them.

This module knows names of entries, not modules. A network may be nested in containers or have a prefix
such as ``model.``, ``module.`` or ``backbone.base.``: it is found by the names of its own entries.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
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
AUTHORS_DRN = "authors' DRN classifier"
RESNET = 'ResNet classifier'  # the authors' DRN-A among them: it has ResNet's names and weights
AUTHORS_DRNSEG = "authors' DRNSeg"
MMDET3D_DLANET = "mmdet3d's DLANet"
CENTERNET = 'DLASeg of the CenterNet family'
BACKBONE = 'backbone'  # after the network's name: no classifier, or another model's backbone
# Heads of CenterNet, and what mmdet's CenterNetHead calls them.
CENTERNET_HEADS = dict(hm='heatmap_head', wh='wh_head', reg='offset_head')

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
    """

    source: str
    prefix: str = ''
    loaded: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

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


def convert_released(checkpoint: Mapping, source: str = 'checkpoint') -> Converted:
    """Find a released network in a checkpoint by its names, and rename its entries for this project.

    Args:
        checkpoint (Mapping): Content of the file, see :func:`read_checkpoint`, or a state dict.
        source (str): Its name, for messages.

    Returns:
        Converted: The result; the input does not change.

    Raises:
        CheckpointError: If it has none of the known formats.
    """
    tensors, roots = entries_of(checkpoint)
    found = _recognise(tensors, roots, source)
    if found is None:
        raise CheckpointError(
            f"{source}: neither an authors' DLA, DLASeg, DRN or DRNSeg checkpoint, nor timm's DLA, nor "
            "a ResNet with torchvision's names, nor mmdet3d's DLANet, nor a DLASeg of the CenterNet "
            f'family, nor a model with such a backbone (its keys: '
            f'{_listed(tensors or map(str, checkpoint), 6)}){"" if tensors else objects_in(checkpoint)}'
        )
    return found


def _recognise(tensors: dict[str, Tensor], roots: dict[str, str], source: str) -> Converted | None:
    for kind, (first, *others) in MARKS:
        for key in tensors:
            if key == first or key.endswith(f'.{first}'):
                prefix = key.removesuffix(first)
                if all(prefix + other in tensors for other in others):
                    return _convert(tensors, roots, kind, prefix, roots[key], source)
    return None


def _convert(
    tensors: dict[str, Tensor], roots: dict[str, str], kind: str, prefix: str, root: str, source: str
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
    if within and kind == 'DLA' and {'fc.0.weight', 'fc.0.bias'} <= beside.keys():
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
        if form != CENTERNET and 'up.weight' in beside:
            report.leave_out([beside['up.weight']], FIXED)
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
    old = {under[name] for name in CLASSIFIER & under.keys()}.difference(rest.values())
    report.leave_out(sorted(old), OLD_CLASSIFIER)
    report.converted = list(names.values())
    others = set(tensors).difference(report.converted, *report.left_out.values())
    report.leave_out((key for key in tensors if key in others), NO_COUNTERPART)
    left = report.left_out.get(NO_COUNTERPART, ())
    return Converted(
        form,
        {name: _value(name, tensors[key]) for name, key in names.items()},
        {name: tensors[key] for name, key in network.items()},
        backbone,
        names,
        report,
        tuple(sorted(report.modules(k for k in left if roots[k] == root))),
        down_ratio,
        tensors[classes].numel() if classes else None,
    )


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
    return 2 ** (5 - len({k.split('.')[1] for k in names if k.startswith('dla_up.')}))


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

    Raises:
        CheckpointError: If no name is found or, with ``strict``, not all are.
    """
    tensors, roots = entries_of(content)
    views = [{key: key for key in tensors}]
    dropped: dict[str, str] = {}
    try:
        found = _recognise(tensors, roots, source)
    except CheckpointError:  # a decoder without a counterpart, say; the backbone has its own names
        found = None
    if found is not None:
        views.append(found.names)
        reasons = (UNUSED, FIXED, OLD_CLASSIFIER)
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
    if found is not None and names is not views[0]:
        report.prefix = found.report.prefix
    state: dict[str, Tensor] = {}
    lacking = []
    for name, value in own.items():
        key = names.get(f'{at}{name}')
        if key is None:
            if not name.endswith('num_batches_tracked'):  # old files have none
                lacking.append(f'{name} (missing)')
            continue
        given = _value(name, tensors[key])
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

    odd = report.missing or UNEXPECTED in report.left_out
    print_log(f'{name}: {report.summary()}', logger='current', level=30 if odd else 20)


def load_pretrained(
    module: nn.Module,
    checkpoint: str,
    prefix: str | None = None,
    map_location: str | None = None,
    strict: bool = True,
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
    state, report = _fit(module.state_dict(), content, source, name, prefix, unused, strict)
    module.load_state_dict(state, strict=False)
    _log(report, name)
    return report


def _fit_model(
    model: nn.Module, checkpoint: Mapping, source: str, strict: bool = True
) -> tuple[dict[str, Tensor], LoadReport]:
    name = f'the model, {type(model).__name__}'
    backbone = getattr(model, 'backbone', None)
    if backbone is not None:
        name += f' with {type(backbone).__name__}'
    dropped: tuple[str, ...] = getattr(backbone, 'dropped', tuple)()
    unused = tuple(f'backbone.{start}' for start in dropped)
    return _fit(model.state_dict(), checkpoint, source, name, unused=unused, strict=strict)


def weights_for(
    model: nn.Module, checkpoint: Mapping, source: str, strict: bool = True
) -> dict[str, Tensor]:
    """Select the weights of a complete model from a checkpoint, under the model's names.

    The log says for each entry of the file whether it is used.

    Args:
        model (nn.Module): A model of mmpretrain or mmseg to compare with; it does not change.
        checkpoint (Mapping): From :func:`read_checkpoint`. The authors' networks are converted.
        source (str): Its name, for messages.
        strict (bool): Whether the file must have all weights of the model. Default: True.

    Raises:
        CheckpointError: If it holds no weights of the model; with ``strict``, also if weights are
            missing or have another shape.
    """
    state, report = _fit_model(model, checkpoint, source, strict)
    _log(report, type(model).__name__)
    return state


def load_model(model: nn.Module, checkpoint: Mapping, source: str) -> LoadReport:
    """Load a checkpoint that must have exactly the weights of a model.

    Args:
        model (nn.Module): A model of mmpretrain or mmseg.
        checkpoint (Mapping): From :func:`read_checkpoint`.
        source (str): Its name, for messages.

    Returns:
        LoadReport: Says for each entry whether it was loaded.

    Raises:
        CheckpointError: See :func:`weights_for`; also if it has parameters that the model does not
            have.
    """
    state, report = _fit_model(model, checkpoint, source)
    more = report.left_out.get(UNEXPECTED, ())
    if more:
        shown = _listed((f'{k.removeprefix(report.prefix)} (not in the model)' for k in more), 3)
        raise CheckpointError(f'{source}: of another network than the model; {shown}')
    model.load_state_dict(state, strict=False)
    _log(report, type(model).__name__)
    return report
