# HED's augmented BSDS500 with AFA-DLA's crops and jitter; validated and tested on BSDS500 itself
_base_ = 'bsds500.py'
data_root = r"""{{$HED_BSDS_ROOT:data/HED-BSDS}}"""
# ImageNet's, RGB, 0-255
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
crop_size = (416, 416)  # AFA-DLA's recipe
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # above 0.3 a boundary, below ignored, as AFA-DLA's released code has it
    dict(type='mmdla.LoadBoundaryAnnotations', label='grey', boundary_above=0.3, ignore_above=0.0),
    dict(type='mmdla.ReflectPad', size=crop_size),
    dict(type='RandomCrop', crop_size=crop_size),
    # torchvision's jitter: mmpretrain's own fails with mmcv 2.1 and NumPy 2
    dict(type='mmpretrain.NumpyToPIL', to_rgb=True),
    dict(
        type='mmpretrain.torchvision/ColorJitter',
        brightness=0.25,
        contrast=0.25,
        saturation=0.25,
        hue=0.25,
    ),
    dict(type='mmpretrain.PILToNumpy', to_bgr=True),
    dict(type='PackSegInputs'),  # flips and rotations are among the 28 800 images
]
train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = the recipe's 16
    dataset=dict(
        _delete_=True,
        type='mmdla.BoundaryPairsDataset',
        data_root=data_root,
        ann_file='train_pair.lst',
        pipeline=train_pipeline,
    ),
)
