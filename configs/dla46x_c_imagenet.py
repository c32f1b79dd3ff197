# DLA-X-46-C on ImageNet: 33.99% top-1, 13.05% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='46x_c'), head=dict(in_channels=256))
