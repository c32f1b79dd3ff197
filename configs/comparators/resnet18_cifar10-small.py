# mmpretrain's ResNet-18 on a CIFAR-10 subset: the recipe of dla34_cifar10-small.py
_base_ = '../small_compute/dla34_cifar10-small.py'
model = dict(
    backbone=dict(
        _delete_=True, type='ResNet_CIFAR', depth=18, num_stages=4, out_indices=(3,), style='pytorch'
    ),
    head=dict(init_cfg=dict(std=0.01)),  # mmpretrain's
)
