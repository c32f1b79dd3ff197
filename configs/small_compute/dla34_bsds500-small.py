# DLA-34 2s on BSDS500, small compute: 600 iterations from scratch
_base_ = [
    '../_base_/models/dla34_boundary.py',
    '../_base_/datasets/bsds500.py',
    '../_base_/schedules/small_600i.py',
    '../_base_/boundary_runtime.py',
]
# no rotation: it leaves three tenths of a crop unlabelled
crop_size = (256, 256)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdla.LoadBoundaryAnnotations', label='union'),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
