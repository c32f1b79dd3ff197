# CenterNet with DLA-34 and deformable convolutions on COCO, as published
_base_ = 'dla34_centernet_coco.py'
model = dict(neck=dict(conv_cfg=dict(type='DCNv2', deform_groups=1)))
