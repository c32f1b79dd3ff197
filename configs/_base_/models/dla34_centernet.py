# DLA-34 with CenterNet's IDA-up and heads
# DLA_WEIGHTS: ImageNet weights to start from, as in the paper: `timm` for the published ones, or a
# path or address; none: from scratch
weights = r"""{{$DLA_WEIGHTS:none}}"""
model = dict(
    type='CenterNet',
    # released: BGR, with mean and deviation of images in 0-1
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[255 * 0.408, 255 * 0.447, 255 * 0.470],
        std=[255 * 0.289, 255 * 0.274, 255 * 0.278],
    ),
    backbone=dict(
        type='mmdla.DLA',
        arch='34',
        init_cfg=None if weights == 'none' else dict(type='Pretrained', checkpoint=weights),
    ),
    neck=dict(type='mmdla.IDAUp', in_channels=[64, 128, 256, 512], variant='centernet'),
    bbox_head=dict(type='CenterNetHead', in_channels=64, feat_channels=256, num_classes=80),
    test_cfg=dict(topk=100, local_maximum_kernel=3),
)
