# AFA-DLA-X-102 with object context (OCR) and rendering over scales (SSR), as published for Cityscapes
_base_ = 'afa-dla34.py'
norm_cfg = dict(type='SyncBN')
loss = dict(type='mmdla.OneHotBCELoss')
model = dict(
    backbone=dict(arch='102x'),
    neck=dict(in_channels=[32, 128, 256, 512, 1024]),
    decode_head=dict(
        _delete_=True,
        type='mmdla.ObjectContextHead',
        in_channels=32,
        num_classes=19,
        norm_cfg=norm_cfg,
        # released weights
        loss_decode=[
            dict(**loss, loss_weight=0.5),
            dict(type='mmdla.RegionMutualInformationLoss', loss_weight=0.5),
        ],
        loss_aux=dict(**loss, loss_weight=0.4),
    ),
    # on what each step of the up-network ends with
    auxiliary_head=[
        dict(
            type='mmdla.LinearHead',
            in_channels=channels,
            in_index=index,
            stride=stride,
            num_classes=19,
            upsample='deconv',
            log_prob=True,
            loss_decode=dict(**loss, loss_weight=0.05),
        )
        for index, (channels, stride) in enumerate([(512, 16), (256, 8), (128, 4), (32, 2)])
    ],
    scale_attention=dict(type='mmdla.ScaleSpaceRendering', channels=256, norm_cfg=norm_cfg),
    loss_scale=dict(**loss, loss_weight=0.05),
    # released: images are enlarged to multiples
    train_cfg=dict(scales=(0.5, 1.0), size_divisor=64),
    test_cfg=dict(scales=(0.5, 1.0, 1.5, 1.75, 2.0), size_divisor=128),
)
