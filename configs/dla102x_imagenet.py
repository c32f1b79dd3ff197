# DLA-X-102 on ImageNet: 21.48% top-1, 5.77% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='102x'), head=dict(in_channels=1024))
