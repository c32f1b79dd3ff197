# DRN-A-18 on ImageNet: 28.00% top-1, 9.50% top-5 error, of ten crops 25.75% and 8.25% (paper)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='a_18', out_indices=(4,)))
