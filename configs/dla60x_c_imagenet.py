# DLA-X-60-C on ImageNet: 32.07% top-1, 11.57% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='60x_c'), head=dict(in_channels=256))
