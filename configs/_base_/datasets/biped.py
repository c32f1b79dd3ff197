# BIPED, 200 images to train on and 50 to test on, of 1280x720
_base_ = 'loaders.py'
dataset_type = 'mmdla.BoundaryPairsDataset'
data_root = r"""{{$BIPED_ROOT:data/BIPED/edges}}"""
# ImageNet's, RGB, 0-255
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
crop_size = (352, 352)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdla.LoadBoundaryAnnotations', label='grey', boundary_above=0.3, ignore_above=0.0),
    dict(type='mmdla.ThinReflectRotate', degree=180),
    dict(type='mmdla.ReflectPad', size=crop_size),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# The metric reads the annotations by itself.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='imgs/train/rgbr/real', seg_map_path='edge_maps/train/rgbr/real'),
        pipeline=train_pipeline,
    ),
)
# There is no validation split: choose settings on a part of the training images.
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='imgs/test/rgbr', seg_map_path='edge_maps/test/rgbr'),
        pipeline=test_pipeline,
    ),
)
val_dataloader = test_dataloader
# Quick: the protocol has 99 thresholds. Counted by processes of its own.
val_evaluator = dict(type='mmdla.BoundaryMetric', thresholds=9, num_workers=4)
test_evaluator = dict(type='mmdla.BoundaryMetric', num_workers=4)
