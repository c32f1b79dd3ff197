# DRN-B-26 tells where on ImageNet: 53.8% top-1, 49.3% top-5 localization error in the paper
_base_ = 'drn_c_26_imagenet-boxes.py'
model = dict(backbone=dict(arch='b_26'))
