"""What the yamls of conf/ can compute: `${run_name:}`, and numbers that depend on the images."""

from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf


def _run_name(_root_: DictConfig) -> str:
    from genmodels.training import name_of  # imports torch, which --help and --cfg do without

    return name_of(_root_)


def _folder_name(folder: str) -> str:
    """A folder's own name, without its place; after its parent's if it is only a number."""
    path = Path(folder).resolve()
    name = f"{path.parent.name}-{path.name}" if path.name.isdigit() else path.name
    return name.strip("-") or "pictures"


def _per_pixel(weight: float, _root_: DictConfig) -> float:
    """A weight for each pixel, for the images of the data."""
    _, height, width = _root_.model.image_shape
    return weight * (height * width)


def _gray_or_color(gray: Any, color: Any, _root_: DictConfig) -> Any:
    """The first value for gray images, the second for images in colour."""
    return gray if _root_.model.image_shape[0] == 1 else color


def _gray_bernoulli(_root_: DictConfig) -> bool:
    """Whether the images are gray and the likelihood is one of black and white images."""
    likelihood: Any = get_class(_root_.likelihood._target_)
    return _root_.model.image_shape[0] == 1 and likelihood.binary


def _times(a: float, b: float) -> float:
    return a * b


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
OmegaConf.register_new_resolver("per_pixel", _per_pixel, replace=True)
OmegaConf.register_new_resolver("gray_or_color", _gray_or_color, replace=True)
OmegaConf.register_new_resolver("gray_bernoulli", _gray_bernoulli, replace=True)
OmegaConf.register_new_resolver("times", _times, replace=True)
