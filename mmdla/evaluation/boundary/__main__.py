"""``python -m mmdla.evaluation.boundary PRED_DIR GT_DIR``: score boundary maps, see ``--help``."""

from .command import main

if __name__ == '__main__':
    main()
