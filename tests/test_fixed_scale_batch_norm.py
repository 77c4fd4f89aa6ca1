"""BatchNorm on the posterior mean, and the bound on the KL that it gives."""

from collections.abc import Callable

import pytest
import torch
from conftest import SMALL, summary, trained_states
from torch import Tensor

import genmodels
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.models.fixed_scale_batch_norm import FixedScaleBatchNorm
from genmodels.models.vae import MLPVAE

SCALE = 0.6
SHIFT = 0.5


def batch_normed(latent_dim: int = 3, mean_batch_norm: float | None = SCALE) -> MLPVAE:
    torch.manual_seed(0)
    return MLPVAE(
        image_shape=(1, 6, 6),
        latent_dim=latent_dim,
        widths=[64],
        likelihood=BernoulliLikelihood(),
        mean_batch_norm=mean_batch_norm,
    )


def kl_of(model: MLPVAE, images: Tensor) -> Tensor:
    """(B, D) nats."""
    posterior = model.encode(images)
    return model.prior.kl(posterior, posterior.mean)


@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_it_bounds_the_kl_from_below(latent_dim: int, precision: torch.dtype) -> None:
    """Zhu et al. 2020, eq. 8: each dimension's mean KL is at least (scale^2 + shift^2) / 2."""
    model, images = batch_normed(latent_dim), torch.rand(64, 1, 6, 6)
    assert isinstance(model.mean_norm, FixedScaleBatchNorm)
    model.mean_norm.shift.data.fill_(SHIFT)
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        mean = model.encode(images).mean
        kl = kl_of(model, images)
    assert (kl.mean(dim=0) >= (SCALE**2 + SHIFT**2) / 2 * 0.9999).all()
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.std(dim=0, correction=0), torch.full((latent_dim,), SCALE))


def test_no_optimizer_gets_below_the_bound() -> None:
    """An encoder that does nothing but lower the KL.

    With nn.BatchNorm1d, whose epsilon rewards small outputs, it ends at 0 nats, not at 3 * 0.18.
    """
    model, images = batch_normed(), torch.rand(64, 1, 6, 6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0.01)
    for _ in range(500):
        kl = kl_of(model, images).sum(dim=1).mean()
        optimizer.zero_grad()
        (30 * kl).backward()
        optimizer.step()
    assert kl.item() == pytest.approx(3 * SCALE**2 / 2, rel=0.01)


def test_evaluation_looks_at_one_image_at_a_time() -> None:
    """The running variance is that of the population, a 2000th above that of the batch."""
    model, images = batch_normed(), torch.rand(2000, 1, 6, 6)
    for _ in range(200):
        in_training = model.encode(images).mean
    model.eval()
    together, alone = model.encode(images).mean, model.encode(images[:1]).mean
    torch.testing.assert_close(together, in_training, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(alone, together[:1], atol=1e-4, rtol=1e-4)


def test_equal_values_become_the_shift() -> None:
    """An encoder whose output does not depend on the image gives no NaN."""
    assert FixedScaleBatchNorm(2, SCALE)(torch.ones(4, 2)).tolist() == [[0.0, 0.0]] * 4


def test_a_batch_of_one_is_refused_in_training() -> None:
    with pytest.raises(ValueError, match=r"^batch_size=1: must be at least 2"):
        batch_normed().encode(torch.rand(1, 1, 6, 6))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf")])
def test_an_illegal_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"^mean_batch_norm=.*: must be a finite number > 0"):
        batch_normed(mean_batch_norm=scale)


def test_only_the_shift_is_learned() -> None:
    assert [name for name, _ in batch_normed().mean_norm.named_parameters()] == ["shift"]


def test_without_it_a_model_has_no_state_of_it() -> None:
    names = batch_normed(mean_batch_norm=None).state_dict()
    assert all(name.startswith(("encoder.", "decoder.")) for name in names)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_averaged_weights_keep_the_bound(precision: str, train_here: Callable) -> None:
    """At KL weight 30, in evaluation, with running statistics that are averaged alike."""
    folder = train_here(
        *SMALL,
        f"model.mean_batch_norm={SCALE}",
        "kl_weight=30",
        "kl_schedule=constant",
        "max_steps=150",
        "evaluate_every=150",
        f"precision={precision}",
    )
    kl = summary(folder)["metrics"]["test"]["kl"]
    assert 0.95 < kl / (4 * SCALE**2 / 2) < 1.5
    average = genmodels.load(folder).mean_norm.running_var
    last = trained_states(folder)["trainer"]["updater"]["model"]["mean_norm.running_var"]
    assert 0 < (average / last - 1).abs().max() < 0.5
