# DRN-A-50 on ImageNet, localization: 54.0% top-1, 48.4% top-5 error in the paper
_base_ = 'drn_c_26_imagenet-boxes.py'
model = dict(backbone=dict(arch='a_50', out_indices=(4,)), head=dict(in_channels=2048))
