# DRN-D-105 on ImageNet: 20.6% top-1, 5.5% top-5 error (released)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='d_105'))
