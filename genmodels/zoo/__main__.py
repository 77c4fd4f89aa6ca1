"""python -m genmodels.zoo RUN NAME: add a trained model to the zoo, in float16.

`checkpoint=zoo:NAME` then stands for it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from genmodels import run_lookup, safetensors_io

USAGE = "usage: python -m genmodels.zoo RUN NAME"


def add(run: str, name: str, folder: Path = run_lookup.ZOO) -> Path:
    """Write the weights of a run to <name>.safetensors, half as large; returns its path.

    Raises ValueError where there are none.
    """
    tensors, metadata = safetensors_io.load(run_lookup.locate(run))
    del metadata["crc32"]
    metadata["about"]["name"] = f"zoo-{name}"
    path = folder / f"{name}.safetensors"
    safetensors_io.save(path, {key: _halved(tensor) for key, tensor in tensors.items()}, metadata)
    return path


def _halved(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    try:
        if len(arguments) != 2:
            raise ValueError(USAGE)
        run, name = arguments
        path = add(run, name)
    except (ValueError, OSError) as error:
        print(f"genmodels.zoo: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
