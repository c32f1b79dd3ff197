# DRN-C-26 with average pooling and a linear classifier, as released
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        num_classes=1000,
    ),
    backbone=dict(type='mmdla.DRN', arch='c_26', out_indices=(8,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        # released: a 1x1 convolution, initialized like the others
        init_cfg=dict(type='Normal', layer='Linear', std=(2 / 1000) ** 0.5),
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)
