"""genmodels: generative models of small images. `genmodels.load(RUN)` gives a trained model back, ready to sample."""

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> object:
    """Import `load` when it is first asked for: torch takes seconds, and `train.py --help` must not wait for it."""
    if name == "load":
        from genmodels.checkpoint import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
