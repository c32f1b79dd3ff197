# AFA-DLA-34 at output stride 2: attentive nodes in IDA-up, attentive fusion of its last three steps
_base_ = 'dla34_idaup.py'
model = dict(
    type='mmdla.MultiScaleSegmentor',
    neck=dict(type='mmdla.AFAUp', in_channels=[32, 64, 128, 256, 512], norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        _delete_=True,
        type='mmdla.LinearHead',
        in_channels=32,
        stride=2,
        num_classes=19,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    train_cfg=dict(size_divisor=1),
    test_cfg=dict(size_divisor=1),
)
