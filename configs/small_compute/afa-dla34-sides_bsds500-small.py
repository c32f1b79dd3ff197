# AFA-DLA-34 with side outputs on BSDS500, small compute: the recipe of dla34_bsds500-small.py
_base_ = 'dla34-sides_bsds500-small.py'
model = dict(
    neck=dict(
        _delete_=True,
        type='mmdla.AFAUp',
        in_channels=[32, 64, 128, 256, 512],
        norm_cfg=dict(type='SyncBN'),
    ),
    # the ends of the steps, and the fusion of the last three
    decode_head=dict(in_channels=[256, 128, 64, 32, 32], strides=[16, 8, 4, 2, 2]),
)
