# DRN-C-26 on Cityscapes: 68.0 mIoU on val in the paper
_base_ = 'drn_d_22_cityscapes.py'
model = dict(backbone=dict(arch='c_26'))
