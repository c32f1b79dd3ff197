# SqueezeNet-B on ImageNet: 39.6% top-1, 17.5% top-5 error in its paper
_base_ = 'squeezenet_imagenet.py'
model = dict(backbone=dict(bypass=True))
