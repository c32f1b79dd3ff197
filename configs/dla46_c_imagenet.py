# DLA-46-C on ImageNet: 35.12% top-1, 13.67% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='46_c'), head=dict(in_channels=256))
