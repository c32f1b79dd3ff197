# DRN-A-34 on ImageNet, localization: 55.5% top-1, 50.7% top-5 error in the paper
_base_ = 'drn_c_26_imagenet-boxes.py'
model = dict(backbone=dict(arch='a_34', out_indices=(4,)))
