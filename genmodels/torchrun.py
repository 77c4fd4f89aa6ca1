"""What torchrun tells each process that it starts, by the environment."""

import os


def processes() -> int:
    """How many processes torchrun started, this one included; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Which of this machine's processes this is, from 0, and so which of its GPUs it has."""
    return int(os.environ.get("LOCAL_RANK", "0"))
