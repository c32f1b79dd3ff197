"""Data sets and transforms that mmseg lacks; importing them needs mmseg."""

from ..utils.data_checks import DataFolderError
from .camvid import CamVidDataset
from .demo_streets import DemoStreetsDataset, generate_demo_streets

__all__ = ['CamVidDataset', 'DataFolderError', 'DemoStreetsDataset', 'generate_demo_streets']
