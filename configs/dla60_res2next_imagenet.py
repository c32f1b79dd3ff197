# DLA-60 with Res2NeXt blocks on ImageNet: 21.51% top-1, 5.86% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='60_res2next'), head=dict(in_channels=1024))
