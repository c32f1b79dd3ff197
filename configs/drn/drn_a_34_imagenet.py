# DRN-A-34 on ImageNet: 24.81% top-1, 7.54% top-5 error, of ten crops 22.64% and 6.34% (paper)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='a_34', out_indices=(4,)))
