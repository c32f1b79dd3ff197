# DRN-A-18 on ImageNet, localization: 54.6% top-1, 48.2% top-5 error in the paper
_base_ = 'drn_c_26_imagenet-boxes.py'
model = dict(backbone=dict(arch='a_18', out_indices=(4,)))
