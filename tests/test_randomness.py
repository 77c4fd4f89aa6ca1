"""Seeds as functions of (seed, stream, step), and what a device computes in."""

import itertools

import pytest
import torch

from genmodels import hardware, randomness


def test_seeds_are_functions_and_differ() -> None:
    arguments = itertools.product(range(20), ("train", "data order"), range(50))
    seeds = {randomness.derive_seed(*each) for each in arguments}
    assert len(seeds) == 2000 and all(0 <= seed < 2**32 for seed in seeds)
    assert randomness.derive_seed(0, "train", 3) == 546149966


def test_reseeding_repeats_the_numbers() -> None:
    def draw(step: int) -> torch.Tensor:
        randomness.reseed(1, "train", step)
        return torch.rand(4)

    assert torch.equal(draw(5), draw(5)) and not torch.equal(draw(5), draw(6))


def test_a_generator_leaves_the_global_one_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    torch.rand(10, generator=randomness.generator(0, "x"))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, "fp32"),
        ({"avx512_vnni": True}, "fp32"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True}, "bf16"),
    ],
)
def test_precision_follows_the_processor(
    capabilities: dict, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert hardware.choose_precision("auto", torch.device("cpu")) == expected
    assert hardware.choose_precision("fp32", torch.device("cpu")) == "fp32"


def test_devices() -> None:
    assert hardware.choose_device("cpu") == torch.device("cpu")
    assert hardware.choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="device=cuda:99"):
        hardware.choose_device("cuda:99")
