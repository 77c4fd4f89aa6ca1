"""The line under every figure: what made it."""

from collections.abc import Mapping
from typing import Any

from genmodels.run_name import data_name
from genmodels.settings import usual_likelihood


def caption(about: Mapping[str, Any], step: int) -> str:
    """Data set, model, KL weight, seed and step in one line, for under a figure.

    Objective and likelihood are named where they are not the usual ones.
    """
    settings, choices = about["settings"], about["choices"]
    parts = [data_name(settings, choices), choices["model"]]
    dimensions = settings.get("model.latent_dim")
    if dimensions:
        parts.append(f"{dimensions} latent dimension{'' if dimensions == 1 else 's'}")
    if choices.get("objective", "elbo") != "elbo":
        parts.append(f"objective {choices['objective']}")
    if "adversarial_loss" in choices:
        parts.append(f"{choices['adversarial_loss']} loss")
    if "likelihood" in choices:
        likelihood = choices["likelihood"]
        if likelihood != usual_likelihood(settings["model.image_shape"]):
            parts.append(f"likelihood {likelihood}")
    if "kl_weight" in settings:
        parts.append(f"KL weight {settings['kl_weight']:g} ({choices['kl_schedule']})")
    parts += [f"seed {settings['seed']}", f"step {step}"]
    return " \N{MIDDLE DOT} ".join(parts)
