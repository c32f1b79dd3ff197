# NYUDv2's depth as HHA (disparity, height above ground, angle with gravity), with AFA-DLA's recipe
_base_ = 'nyudv2_boundaries.py'
# of the data set, as code of boundary detectors since HED has it: RGB order, 0-255
mean = [127.42, 88.24, 109.92]
std = [58.395, 57.12, 57.375]  # ImageNet's
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
