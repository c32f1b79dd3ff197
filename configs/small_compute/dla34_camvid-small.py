# DLA-34 2s on CamVid, small compute: 600 iterations from scratch
_base_ = [
    '../_base_/models/dla34_idaup.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/small_600i.py',
    '../_base_/default_runtime.py',
]
crop_size = (256, 256)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmdla.ReflectPad', size=crop_size),
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
model = dict(
    data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}),
    # mmseg's average, over void pixels too, on both sides of the comparison
    decode_head=dict(num_classes=11, loss_decode=dict(avg_non_ignore=False)),
)
