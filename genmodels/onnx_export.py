"""python -m genmodels.onnx_export RUN FILE.onnx: a trained generator or decoder for other software.

The model takes z (B, D), and of a conditional model labels (B,) int64, and gives images
(B, C, H, W) in [0, 1]. Needs the extra "onnx" of this project.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genmodels import checkpoint, files
from genmodels.models.generative import GenerativeModel

USAGE = "usage: python -m genmodels.onnx_export RUN FILE.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CHECKED = 16  # images that are compared with torch's
TOLERANCE = 1 / 255  # of a value in [0, 1]


class Generate(nn.Module):
    """A model whose forward pass is `generate`.

    Arguments:
    model: whose networks it calls.
    """

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (B, D), labels (B,) int64 -> images (B, C, H, W) in [0, 1]."""
        return self.model.generate(z, labels)


def export(run: str, path: Path) -> float:
    """Write a run's model as ONNX; returns the largest difference from torch of a value in [0, 1].

    Raises ValueError for a model without latents, without the extra, and where ONNX makes other
    images than torch; nothing is written then.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing: uv sync --extra onnx")
    model = checkpoint.load(run)
    if not isinstance(model, GenerativeModel):
        raise ValueError(f"checkpoint={run}: a {type(model).__name__} generates no images")
    generate = Generate(model.to(memory_format=torch.contiguous_format)).eval()
    inputs = {"z": torch.randn(CHECKED, model.latent_dim)}
    if model.num_classes:
        inputs["labels"] = torch.arange(CHECKED) % model.num_classes
    batch = torch.export.Dim("batch", min=1)
    with files.atomic_write(path) as temporary:
        torch.onnx.export(
            generate,
            tuple(inputs.values()),
            temporary,
            input_names=list(inputs),
            output_names=["images"],
            dynamic_shapes={name: {0: batch} for name in inputs},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        difference = largest_difference(temporary, generate, inputs)
        if difference > TOLERANCE:
            raise ValueError(f"{path}: not written: differs from torch by {difference:.4f}")
    return difference


@torch.no_grad()
def largest_difference(path: Path, generate: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Between the images of a file and those of torch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in (CHECKED, 3):  # of any batch
        arguments = {name: tensor[:count] for name, tensor in inputs.items()}
        arrays = {name: tensor.numpy() for name, tensor in arguments.items()}
        (images,) = session.run(None, arrays)
        difference = torch.from_numpy(images) - generate(*arguments.values())
        largest = max(largest, difference.abs().max().item())
    return largest


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    try:
        if len(arguments) != 2:
            raise ValueError(USAGE)
        run, path = arguments
        difference = export(run, Path(path))
    except (ValueError, OSError) as error:
        print(f"genmodels.onnx_export: {error}", file=sys.stderr)
        return 1
    print(f"{path}: images differ from torch's by at most {255 * difference:.3f} of 255")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
