# DRN-A-34 tells where on ImageNet: 55.5% top-1, 50.7% top-5 localization error in the paper
_base_ = 'drn_c_26_imagenet-boxes.py'
model = dict(backbone=dict(arch='a_34', out_indices=(4,)))
