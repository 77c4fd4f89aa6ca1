"""Settings and numbers as the cells and labels of a report."""

from collections.abc import Mapping

from genmodels.formatting import format_number, format_setting

MAX_LETTERS = 60  # of a cell
# Settings as readers say them
WORDS = {
    "kl_weight": "KL weight",
    "kl_schedule": "KL schedule",
    "lr": "learning rate",
    "lr_schedule": "learning rate schedule",
    "max_steps": "steps",
    "latent_dim": "latent dimensions",
    "norm": "normalisation",
    "generator_norm": "normalisation of G",
    "discriminator_norm": "normalisation of D",
    "trainer.generator.lr": "learning rate of G",
    "trainer.discriminator.lr": "learning rate of D",
    "ema_images": "EMA half-life in images",
    "ema_decay": "EMA decay",
    "dataset": "data",
}


def setting_word(key: str) -> str:
    """A setting's name: "latent dimensions" for model.latent_dim."""
    last = key.rpartition(".")[2]
    return WORDS.get(key) or WORDS.get(last, last.replace("_", " "))


def format_cell(value: object) -> str:
    """A value as tables have it, "" for None; long texts are cut."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else format_number(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 3] + "..."


def format_settings(settings: Mapping[str, object]) -> str:
    """Settings as a label: "KL weight 3, learning rate 0.1"."""
    parts = [f"{setting_word(key)} {format_cell(value)}" for key, value in settings.items()]
    return ", ".join(parts)


def sort_key(value: object) -> tuple:
    """A key by which values of any kind can be sorted: numbers first."""
    if isinstance(value, int | float):
        return (0, value)
    return (1, format_setting(value))
