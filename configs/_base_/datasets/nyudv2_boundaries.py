# NYUDv2's RGB images with AFA-DLA's recipe: scales, crops and jitter
_base_ = 'loaders.py'
dataset_type = 'mmdla.BoundaryPairsDataset'
data_root = r"""{{$NYUDV2_BOUNDARIES_ROOT:data/NYUD}}"""
# ImageNet's, RGB, 0-255
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
crop_size = (480, 480)  # AFA-DLA's recipe
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdla.LoadBoundaryAnnotations', label='grey', boundary_above=0.3, ignore_above=0.0),
    dict(
        type='RandomResize',
        resize_type='mmdla.ThinResize',
        scale=(560, 425),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='mmdla.ReflectPad', size=crop_size),
    dict(type='RandomCrop', crop_size=crop_size),
    # torchvision's jitter: mmpretrain's own fails with mmcv 2.1 and NumPy 2
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(
        type='mmpretrain.torchvision/ColorJitter',
        brightness=0.25,
        contrast=0.25,
        saturation=0.25,
        hue=0.25,
    ),
    dict(type='mmpretrain.PILToNumpy', to_bgr=True),
    dict(type='PackSegInputs'),  # no flips and rotations, as in the recipe
]
# The metric reads the annotations by itself.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = the recipe's 16
    dataset=dict(
        type=dataset_type, data_root=data_root, ann_file='image-train.lst', pipeline=train_pipeline
    ),
)
# There is no validation split: choose settings on a part of the list.
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='image-test.lst',
        data_prefix=dict(seg_map_path='groundTruth/test'),
        pipeline=test_pipeline,
    ),
)
val_dataloader = test_dataloader
# Quick: the protocol has 99 thresholds. Counted by processes of its own.
val_evaluator = dict(type='mmdla.BoundaryMetric', thresholds=9, max_dist=0.011, num_workers=4)
test_evaluator = dict(type='mmdla.BoundaryMetric', max_dist=0.011, num_workers=4)
