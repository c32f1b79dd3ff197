# DLA-34 4s on BSDS500: ODS .767, OIS .778, AP .751 in the paper
_base_ = 'dla34_bsds500.py'
model = dict(backbone=dict(out_indices=(2, 3, 4, 5)), decode_head=dict(in_channels=[64, 128, 256, 512]))
