"""Errors of the readers of checkpoints."""


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be used; the message says why."""
