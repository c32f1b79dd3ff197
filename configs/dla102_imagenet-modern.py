# DLA-102 on ImageNet with a modern recipe
_base_ = 'dla34_imagenet-modern.py'
model = dict(backbone=dict(arch='102'), head=dict(in_channels=1024))
