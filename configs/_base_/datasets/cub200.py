# CUB-200-2011: 200 kinds of birds, 5994 training and 5794 test images
_base_ = 'pipelines_448.py'
data_root = r"""{{$CUB200_ROOT:data/CUB_200_2011}}"""
test = dict(type='CUB', data_root=data_root, split='test', pipeline={{_base_.test_pipeline}})
train_dataloader = dict(
    dataset=dict(type='CUB', data_root=data_root, split='train', pipeline={{_base_.train_pipeline}})
)
val_dataloader = dict(dataset=test)
test_dataloader = dict(dataset=test)
