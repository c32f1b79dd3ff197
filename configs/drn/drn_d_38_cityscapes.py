# DRN-D-38 on Cityscapes: 71.4 mIoU on val (released)
_base_ = 'drn_d_22_cityscapes.py'
model = dict(backbone=dict(arch='d_38'))
