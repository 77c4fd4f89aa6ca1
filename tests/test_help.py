"""--help teaches: what there is to choose, and what each setting is for."""

import pytest

from genmodels.composition import CONF
from genmodels.help_text import help_text
from genmodels.user_errors import UserError


def line_of(text: str, start: str) -> str:
    """The line that begins with this, after the star of what is chosen."""
    return next(line for line in text.splitlines() if line.lstrip(" *").startswith(start))


def test_choices_have_a_line_each() -> None:
    text = help_text("train", ["--help"])
    for group in ("model", "dataset", "prior", "objective", "kl_schedule", "experiment"):
        for path in CONF.glob(f"{group}/*.yaml"):
            name, _, summary = line_of(text, f"{path.stem} ").lstrip(" *").partition(" ")
            assert name == path.stem and len(summary.strip()) > 4
    assert "  * vae     " in text and "  * flow " in text


def test_settings_have_the_comments_of_the_yamls() -> None:
    text = help_text("train", ["--help"])
    assert line_of(text, "epochs=80").endswith("passes over the training split")
    assert line_of(text, "kl_schedule.warmup=0.1").endswith("fraction of the run")
    assert line_of(text, "dataset.cache=data/cache").endswith("decoded once, then read from here")
    assert "draw training images black and white" in line_of(text, "trainer.binarise=...")
    assert "trainer.updater.lr=" not in text  # lr decides it
    assert not [word for word in ("_target_", "_partial_", "???", "${") if word in text]
    assert max(map(len, text.splitlines())) <= 100


def test_settings_are_those_of_the_choices() -> None:
    text = help_text("train", ["model=gan", "--help"])
    assert "  * gan     " in text and "  kl_weight=" not in text
    assert line_of(text, "penalty=") and line_of(text, "trainer.n_critic=1")


def test_infer_says_what_a_checkpoint_may_be() -> None:
    text = help_text("infer", ["-h"])
    assert "run folder, model.safetensors" in line_of(text, "checkpoint=...")
    assert "variance of the prior" in line_of(text, "temperature=1.0")


def test_a_choice_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model=vea: no such choice"):
        help_text("train", ["model=vea", "--help"])
