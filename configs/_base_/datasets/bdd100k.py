# BDD100K with AFA-DLA's recipe: scales, half of the crops by class, rotation, jitter, flips
_base_ = 'loaders.py'
dataset_type = 'BDD100KDataset'
data_root = r"""{{$BDD100K_ROOT:data/bdd100k}}"""
# of the data set, as AFA-DLA's recipe has them: RGB, 0-255
mean = [71.145, 74.715, 73.95]
std = [62.985, 67.575, 70.38]
crop_size = (720, 1280)  # AFA-DLA's recipe
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(1280, 720), ratio_range=(0.5, 2.0), keep_ratio=True),
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
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,  # x 8 GPUs = the recipe's 16
    dataset=dict(
        type='mmdla.ClassUniformDataset',
        share=0.5,  # AFA-DLA's recipe
        tile_size=720,  # and this
        cache='work_dirs/centroids_bdd100k.npz',
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            data_prefix=dict(img_path='images/10k/train', seg_map_path='labels/sem_seg/masks/train'),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/10k/val', seg_map_path='labels/sem_seg/masks/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader  # the labels of the test images are not public
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
