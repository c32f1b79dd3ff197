# DLA-X-60 on ImageNet: 21.77% top-1, 5.98% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='60x'), head=dict(in_channels=1024))
