# The same with InPlace-ABN's leaky ReLU beside the backbone, as most published files have it
_base_ = 'afa-dla102x_ocr-ssr.py'
act_cfg = dict(type='LeakyReLU', negative_slope=0.01)
model = dict(
    neck=dict(act_cfg=act_cfg),
    decode_head=dict(act_cfg=act_cfg),
    scale_attention=dict(act_cfg=act_cfg),
)
