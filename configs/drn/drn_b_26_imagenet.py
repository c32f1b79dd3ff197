# DRN-B-26 on ImageNet: 25.19% top-1, 7.91% top-5 error, of ten crops 23.33% and 6.69% (paper)
_base_ = 'drn_c_26_imagenet.py'
model = dict(backbone=dict(arch='b_26'))
