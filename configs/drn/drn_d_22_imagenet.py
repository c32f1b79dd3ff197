# DRN-D-22 on ImageNet: 25.8% top-1, 8.2% top-5 error (released)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='d_22'))
