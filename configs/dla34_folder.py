# DLA-34 on your own folder of images: fine-tuned, the levels up to stride 2 frozen
_base_ = [
    '_base_/models/dla34_finetuned.py',
    '_base_/datasets/image_folder.py',
    '_base_/schedules/finetune_20e.py',
    '_base_/classification_runtime.py',
]
import os  # noqa: E402  before _base_ it would make mmengine take this for a lazy config

# an output for each class folder of the training images
train = r"""{{$FOLDER_ROOT:data/folder}}/train"""
classes = sorted(e.name for e in os.scandir(train) if e.is_dir()) if os.path.isdir(train) else ['none']
model = dict(
    data_preprocessor=dict(num_classes=len(classes)),
    backbone=dict(frozen_stages=1),
    head=dict(num_classes=len(classes)),
)
# fewer than five classes have no top-5 accuracy
val_evaluator = dict(topk=(1,))
test_evaluator = dict(topk=(1,))
