# DRN-B-26 on ImageNet, localization: 53.8% top-1, 49.3% top-5 error in the paper
_base_ = 'drn_c_26_imagenet-boxes.py'
model = dict(backbone=dict(arch='b_26'))
