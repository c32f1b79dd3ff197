# DLA-102 on ImageNet: 21.98% top-1, 6.05% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
