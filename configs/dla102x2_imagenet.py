# DLA-X-102 64 on ImageNet: 20.55% top-1, 5.35% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='102x2'), head=dict(in_channels=1024))
