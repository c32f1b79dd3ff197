# PASCAL Boundaries with the released recipe's augmentation
dataset_type = 'mmdla.PASCALBoundariesDataset'
data_root = r"""{{$PASCAL_BOUNDARIES_ROOT:data/pascal_boundaries}}"""
# ImageNet's, RGB, 0-255: the data set's own were not at hand
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
crop_size = (480, 480)  # released recipe
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdla.LoadBoundaryAnnotations', label='union'),  # released: what is not 0
    dict(type='mmdla.ThinReflectRotate', degree=10),
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
    batch_size=4,  # x 8 GPUs = the recipe's 32
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
)
# Where there is a test split: --cfg-options test_dataloader.dataset.split=test
test_dataloader = val_dataloader
# Quick: the protocol has 99 thresholds. Counted by processes of its own.
val_evaluator = dict(type='mmdla.BoundaryMetric', thresholds=9, num_workers=4)
test_evaluator = dict(type='mmdla.BoundaryMetric', num_workers=4)
