# DLA-169 on ImageNet: 21.30% top-1, 5.67% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='169'), head=dict(in_channels=1024))
