# DRN-C-58 on ImageNet: 21.7% top-1, 6.0% top-5 error (released)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='c_58'))
