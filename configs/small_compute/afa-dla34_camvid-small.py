# AFA-DLA-34 on CamVid, small compute: the recipe of dla34_camvid-small.py
_base_ = 'dla34_camvid-small.py'
model = dict(
    neck=dict(type='mmdla.AFAUp', in_channels=[32, 64, 128, 256, 512], norm_cfg=dict(type='SyncBN')),
    decode_head=dict(
        _delete_=True,
        type='mmdla.LinearHead',
        in_channels=32,
        stride=2,
        num_classes=11,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=False),
    ),
)
