# AFA-DLA-34 for boundaries as published: InPlace-ABN's leaky ReLU, losses of log-probabilities
_base_ = 'afa-dla34.py'
linear = dict(
    type='mmdla.LinearBoundaryHead',
    num_classes=2,
    upsample='deconv',
    log_prob=True,
)
# released: over both classes, of which boundary weighs 10
loss = dict(type='mmdla.OneHotBCELoss', pos_weight=[1, 10])
model = dict(
    neck=dict(act_cfg=dict(type='LeakyReLU', negative_slope=0.01)),
    decode_head=dict(_delete_=True, **linear, in_channels=32, stride=2, loss_decode=loss),
    # on what each step of the up-network ends with
    auxiliary_head=[
        dict(
            **linear,
            in_channels=channels,
            in_index=index,
            stride=stride,
            loss_decode=dict(**loss, loss_weight=0.05),  # released weight
        )
        for index, (channels, stride) in enumerate([(256, 16), (128, 8), (64, 4), (32, 2)])
    ],
    # released: images are enlarged to multiples
    train_cfg=dict(size_divisor=64),
    test_cfg=dict(size_divisor=128),
)
