# DLA-34 2s with side outputs on BSDS500, small compute: the recipe of dla34_bsds500-small.py
_base_ = 'dla34_bsds500-small.py'
model = dict(
    neck=dict(
        type='mmdla.IDAUp',
        in_channels=[32, 64, 128, 256, 512],
        all_steps=True,
        norm_cfg=dict(type='SyncBN'),
    ),
    decode_head=dict(
        _delete_=True,
        type='mmdla.SideOutputHead',
        in_channels=[256, 128, 64, 32],
        strides=[16, 8, 4, 2],
        # the recipe's, so that the side outputs are all that differs
        loss_decode=dict(type='mmdla.BoundaryCrossEntropyLoss', class_weight=[1, 10]),
    ),
)
