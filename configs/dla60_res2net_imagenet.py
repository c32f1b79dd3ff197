# DLA-60 with Res2Net blocks on ImageNet: 21.52% top-1, 5.80% top-5 error (timm's evaluation)
_base_ = 'dla34_imagenet.py'
model = dict(backbone=dict(arch='60_res2net'), head=dict(in_channels=1024))
