# DRN-C-26 as a classifier with class maps, fine-tuned from ImageNet weights
# DRN_WEIGHTS: a path or address; none: from scratch
_base_ = 'drn_c_26_classifier.py'
weights = r"""{{$DRN_WEIGHTS:none}}"""
model = dict(
    backbone=dict(init_cfg=None if weights == 'none' else dict(type='Pretrained', checkpoint=weights)),
    neck=None,
    head=dict(type='mmdla.ClassMapHead', init_cfg=dict(std=0.01)),
)
