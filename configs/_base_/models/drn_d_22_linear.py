# DRN-D-22 with a linear classifier and frozen upsampling
# DRN_WEIGHTS: ImageNet weights to start from, as in the paper: a path or address; none: from scratch
_base_ = 'dla34_idaup.py'
weights = r"""{{$DRN_WEIGHTS:none}}"""
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdla.DRN',
        arch='d_22',
        norm_cfg=dict(type='SyncBN'),
        init_cfg=None if weights == 'none' else dict(type='Pretrained', checkpoint=weights),
    ),
    decode_head=dict(
        _delete_=True,
        type='mmdla.LinearHead',
        in_channels=512,
        num_classes=19,
        # averaged over labelled pixels, as released
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
)
