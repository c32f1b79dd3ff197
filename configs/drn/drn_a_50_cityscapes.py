# DRN-A-50 on Cityscapes: 67.3 mIoU on val in the paper
_base_ = 'drn_d_22_cityscapes.py'
model = dict(backbone=dict(arch='a_50'), decode_head=dict(in_channels=2048))
