# DLA-60 on ImageNet: 22.96% top-1, 6.68% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='60'), head=dict(in_channels=1024))
