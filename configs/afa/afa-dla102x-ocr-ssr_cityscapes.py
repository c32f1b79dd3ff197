# AFA-DLA-X-102 with OCR and SSR on Cityscapes: 85.14 mIoU on val with flips and SegFix, published
_base_ = [
    '../_base_/models/afa-dla102x_ocr-ssr.py',
    '../_base_/datasets/cityscapes_1024x2048.py',
    '../_base_/schedules/afa_375e.py',
    '../_base_/flip_runtime.py',
]
# The published training took rare classes from automatically labelled images, too, up to epoch 350.
model = dict(data_preprocessor=dict(mean={{_base_.mean}}, std={{_base_.std}}))
