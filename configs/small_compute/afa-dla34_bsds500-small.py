# AFA-DLA-34 on BSDS500, small compute: the recipe of dla34_bsds500-small.py
_base_ = 'dla34_bsds500-small.py'
model = dict(
    neck=dict(type='mmdla.AFAUp', in_channels=[32, 64, 128, 256, 512], norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        _delete_=True,
        type='mmdla.LinearBoundaryHead',
        in_channels=32,
        stride=2,
        num_classes=2,
        # as on the other side of the comparison
        loss_decode=dict(type='mmdla.BoundaryCrossEntropyLoss', class_weight=[1, 10]),
    ),
)
