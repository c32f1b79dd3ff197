# DLA-34 as a classifier, from published ImageNet weights
# DLA_WEIGHTS: `timm` for these, or a path or address; none: from scratch
_base_ = 'dla34_classifier.py'
weights = r"""{{$DLA_WEIGHTS:timm}}"""
model = dict(
    backbone=dict(init_cfg=None if weights == 'none' else dict(type='Pretrained', checkpoint=weights)),
    head=dict(init_cfg=dict(std=0.01)),
)
