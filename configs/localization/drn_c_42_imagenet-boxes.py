# DRN-C-42 on ImageNet, localization: 50.7% top-1, 46.8% top-5 error in the paper
_base_ = 'drn_c_26_imagenet-boxes.py'
model = dict(backbone=dict(arch='c_42'))
