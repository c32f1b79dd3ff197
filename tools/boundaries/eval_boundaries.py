"""Score boundary maps as the BSDS benchmark does: `eval_boundaries.py PRED_DIR GT_DIR`, see --help.

It imports neither PyTorch nor OpenMMLab, so it starts at once. `python -m mmdla.evaluation.boundary` is
the same command where only the installed package is at hand, after importing both.
"""

from __future__ import annotations

import importlib.util
import sys

if 'mmdla' not in sys.modules:
    # The package as a folder of modules: its __init__.py registers the networks.
    sys.modules['mmdla'] = importlib.util.module_from_spec(importlib.util.find_spec('mmdla'))

from mmdla.evaluation.boundary.command import main

if __name__ == '__main__':
    main()
