# DRN-D-38 on ImageNet: 23.8% top-1, 6.9% top-5 error (released)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='d_38'))
