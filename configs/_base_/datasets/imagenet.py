# ImageNet with the released recipe's crops
_base_ = 'loaders.py'
data_root = r"""{{$IMAGENET_ROOT:data/imagenet}}"""
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # released: area 0.08-1, aspect 3/4-4/3
    dict(type='RandomResizedCrop', scale=224, backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,  # x 8 GPUs = the recipe's 256
    num_workers=5,
    dataset=dict(type='ImageNet', data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=5,
    dataset=dict(type='ImageNet', data_root=data_root, split='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader  # the test labels are not public
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
