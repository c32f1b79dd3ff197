# COCO 2017 boxes as CenterNet takes them: random crops at 512x512, tests at the images' own size
_base_ = 'coco_detection.py'
# the borders are black
crop = dict(type='RandomCenterCropPad', mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PhotoMetricDistortion'),
    dict(
        **crop,
        crop_size=(512, 512),
        ratios=(0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
        test_pad_mode=None,
    ),
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),
    # up to the next multiple of 32
    dict(
        **crop,
        ratios=None,
        border=None,
        test_mode=True,
        test_pad_mode=['logical_or', 31],
        test_pad_add_pix=1,
    ),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'border')),
]
train_dataloader = dict(
    batch_size=16,  # x 8 GPUs = the recipe's 128
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
