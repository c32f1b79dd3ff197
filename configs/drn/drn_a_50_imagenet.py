# DRN-A-50 on ImageNet: 22.94% top-1, 6.57% top-5 error, of ten crops 21.34% and 5.74% (paper)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='a_50', out_indices=(4,)), head=dict(in_channels=2048))
