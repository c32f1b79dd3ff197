# DLA-34 8s on BSDS500: ODS .760, OIS .772, AP .739 in the paper
_base_ = 'dla34_bsds500.py'
model = dict(backbone=dict(out_indices=(3, 4, 5)), decode_head=dict(in_channels=[128, 256, 512]))
