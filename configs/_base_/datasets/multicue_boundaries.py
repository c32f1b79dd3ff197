# Multicue's boundaries, 80 images to train on and 20 to test on, of 1280x720; MULTICUE_SET (1, 2 or 3)
# names one of the random splits that results are averaged over
_base_ = 'loaders.py'
dataset_type = 'mmdla.BoundaryPairsDataset'
data_root = r"""{{$MULTICUE_ROOT:data/multicue}}"""
random_split = r"""{{$MULTICUE_SET:1}}"""
# ImageNet's, RGB, 0-255
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
crop_size = (500, 500)  # as in HED's and RCF's experiments
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # a boundary where more than 0.3 of the annotators marked one
    dict(type='mmdla.LoadBoundaryAnnotations', label='grey', boundary_above=0.3, ignore_above=0.0),
    dict(type='mmdla.ThinReflectRotate', degree=180),
    dict(type='mmdla.ReflectPad', size=crop_size),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# The metric reads what each annotator marked by itself.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=f'train_pair_boundary_set_{random_split}.lst',
        pipeline=train_pipeline,
    ),
)
# There is no validation split: choose settings on a part of the training images.
test_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=f'test_pair_boundary_set_{random_split}.lst',
        pipeline=test_pipeline,
    ),
)
val_dataloader = test_dataloader
# Quick: the protocol has 99 thresholds. Counted by processes of its own.
val_evaluator = dict(type='mmdla.BoundaryMetric', thresholds=9, num_workers=4)
test_evaluator = dict(type='mmdla.BoundaryMetric', num_workers=4)
