# SqueezeNet-A on ImageNet: 42.5% top-1, 19.7% top-5 error in its paper
_base_ = '../dla34_imagenet.py'
model = dict(
    backbone=dict(_delete_=True, type='mmdla.SqueezeNet', version='1_0'),
    head=dict(_delete_=True, type='ClsHead', loss=dict(type='CrossEntropyLoss'), topk=(1, 5)),
)
# without batch norm DLA's learning rate, 0.1, is too high
optim_wrapper = dict(optimizer=dict(lr=0.01))
