# DLA-X-46-C on a CIFAR-10 subset, small compute: 10 epochs from scratch at 32x32 pixels
_base_ = 'dla34_cifar10-small.py'
model = dict(backbone=dict(arch='46x_c'), head=dict(in_channels=256))
