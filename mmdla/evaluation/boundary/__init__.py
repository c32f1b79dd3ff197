"""Boundary detection, scored by the protocol of BSDS500; only the metric needs PyTorch."""
