"""Pictures of predictions: segmentation (needs mmseg), localization, precision-recall curves."""
