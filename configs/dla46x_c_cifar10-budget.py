# DLA-X-46-C on 32x32 images, otherwise like DLA-34
_base_ = 'dla34_cifar10-budget.py'
model = dict(backbone=dict(arch='46x_c'), head=dict(in_channels=256))
