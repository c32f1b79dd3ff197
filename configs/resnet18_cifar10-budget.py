# mmpretrain's ResNet-18 for CIFAR, data and schedule of dla34_cifar10-budget.py
_base_ = 'dla34_cifar10-budget.py'
model = dict(
    backbone=dict(
        _delete_=True, type='ResNet_CIFAR', depth=18, num_stages=4, out_indices=(3,), style='pytorch'
    ),
    head=dict(init_cfg=dict(std=0.01)),  # mmpretrain's
)
