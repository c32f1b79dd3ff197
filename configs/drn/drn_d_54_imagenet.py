# DRN-D-54 on ImageNet: 21.2% top-1, 5.9% top-5 error (released)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='d_54'))
