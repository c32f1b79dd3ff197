"""Messages of distributed jobs."""

from __future__ import annotations

import os


def print_rank0(text: str) -> None:
    """Print a line on the first process of a job only.

    Args:
        text (str): The line.
    """
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        print(text, flush=True)
