"""genmodels: generative models of small images.

`genmodels.train("model=vae", "kl_weight=3")` trains as train.py does, `genmodels.load(RUN)` gives a
trained model back, ready to sample.
"""

__version__ = "0.1.0"
__all__ = ["load", "train"]


def __getattr__(name: str) -> object:
    """Import these when they are first asked for: torch takes seconds, `--help` does without."""
    if name == "load":
        from genmodels.checkpoint import load

        return load
    if name == "train":
        from genmodels.training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
