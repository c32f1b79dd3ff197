# DRN-C-42 on ImageNet: 22.94% top-1, 6.57% top-5 error, of ten crops 21.20% and 5.60% (paper)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='c_42'))
