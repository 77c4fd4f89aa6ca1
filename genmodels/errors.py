"""The form that every refusal of a value has: which, what it is, what is legal."""


def require(legal: bool, name: str, value: object, words: str) -> None:
    """Raise ValueError("<name>=<value>: must be <words>") unless the value is legal."""
    if not legal:
        raise ValueError(f"{name}={value}: must be {words}")
