# Food-101: 101 dishes, 75750 training and 25250 test images
_base_ = 'pipelines_448.py'
data_root = r"""{{$FOOD101_ROOT:data/food-101}}"""
test = dict(type='Food101', data_root=data_root, split='test', pipeline={{_base_.test_pipeline}})
train_dataloader = dict(
    dataset=dict(type='Food101', data_root=data_root, split='train', pipeline={{_base_.train_pipeline}})
)
val_dataloader = dict(dataset=test)
test_dataloader = dict(dataset=test)
