# One's own images: train/CLASS/*.jpg and val/CLASS/*.jpg
_base_ = 'imagenet.py'
data_root = r"""{{$FOLDER_ROOT:data/folder}}"""
val = dict(
    _delete_=True,
    type='CustomDataset',
    data_root=data_root,
    data_prefix='val',
    pipeline={{_base_.test_pipeline}},
)
train_dataloader = dict(
    drop_last=False,  # there may be fewer images than a batch holds
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(dataset=val)
test_dataloader = dict(dataset=val)
