# DRN-C-42 on Cityscapes: 70.9 mIoU on val in the paper
_base_ = 'drn_d_22_cityscapes.py'
model = dict(backbone=dict(arch='c_42'))
