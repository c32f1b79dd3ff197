# CIFAR-10 as images in class folders, 32x32
_base_ = 'loaders.py'
data_root = r"""{{$CIFAR10_FOLDER_ROOT:data/cifar10_folder}}"""
# of CIFAR-10's training images, RGB, 0-255
mean = [125.307, 122.961, 113.8575]
std = [51.5865, 50.847, 51.255]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    dataset=dict(type='CustomDataset', data_root=data_root, data_prefix='test', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
