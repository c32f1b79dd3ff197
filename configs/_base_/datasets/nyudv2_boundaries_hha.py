# NYUDv2's depth as HHA (disparity, height above ground, angle with gravity), with AFA-DLA's recipe
_base_ = 'nyudv2_boundaries.py'
# The base's mean and deviation, ImageNet's, are those of AFA-DLA's released code for these, too.
crop_size = (480, 480)
# no jitter: its channels are no colours
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
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(ann_file='hha-train.lst', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(ann_file='hha-test.lst'))
test_dataloader = dict(dataset=dict(ann_file='hha-test.lst'))
