# Cityscapes, training and validation images, with AFA-DLA's recipe: scales, half of the crops by class
_base_ = 'cityscapes.py'
# ImageNet's, RGB, 0-255, as AFA-DLA's released code has them
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
crop_size = (1024, 1024)  # AFA-DLA's recipe
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='mmdla.CentroidCrop', crop_size=crop_size),
    dict(type='mmdla.ReflectPad', size=crop_size),
    dict(type='mmdla.ReflectRotate', degree=10),
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
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = the recipe's 16
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        # The published training draws classes from both together.
        datasets=[
            dict(
                type='mmdla.ClassUniformDataset',
                share=0.5,  # AFA-DLA's recipe
                cache=f'work_dirs/centroids_cityscapes-{split}.npz',
                dataset=dict(
                    type='CityscapesDataset',
                    data_root={{_base_.data_root}},
                    data_prefix=dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}'),
                    pipeline=train_pipeline,
                ),
            )
            for split in ('train', 'val')
        ],
    ),
)
