"""Is this a generative model, and does it use its latent space? The verdict on a VAE, by rules."""

from dataclasses import dataclass

from genmodels.metrics import vae_diagnosis_sentences as sentences
from genmodels.metrics.collapse import LatentUsage, latent_usage
from genmodels.metrics.collapse_threshold import (
    WhitenedSpectrum,
    has_kl_threshold,
    unexplained,
    whitened_spectrum,
)
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.held_out_gain import HeldOutGain, held_out_gain
from genmodels.metrics.vae_diagnosis_sentences import MIN_KL
from genmodels.metrics.verdict import HEALTHY, Verdict
from genmodels.models.vae import VAE

PARTLY = "partly collapsed"
COLLAPSED = "COLLAPSED"
NOT_GENERATIVE = "not a generative model"

# As a share of the mean image's distortion: so near to it are decoders that ignore z. It is no
# proof, for in gray photographs most of the distortion is noise of the pixels.
NEAR_MEAN_IMAGE = 0.03
MIN_SHUFFLED_Z = 0.5  # nats: a decoder ignores z to which another image's z makes less difference
# Nats between q(z) and the prior in one dimension: N(1.4, 1) and N(0, 2.2^2) are so far away.
MAX_GAP_OF_ONE = 1.0
# Nats in all dimensions: hardly a draw from the prior, one in exp(5) = 150 if q(z) is a part of it,
# then comes from where data lie.
MAX_GAP = 5.0
# Nats for each active dimension: N(0.7, 1) and N(0, 1.5^2) are so far away. With less, so that only
# their number makes the sum large, a decoder still knows what the prior draws.
MAX_GAP_PER_DIMENSION = 0.25
# Nats of distortion for a nat of KL, which the ELBO buys at 1: between what 8 healthy runs on
# digits and MNIST left (1.4 to 1.9), and those with dimensions to fill (3 and more).
WORTHWHILE_SAVING = 2.5
# Times the KL weight: where a dimension would save more than this, training has not found it.
CLEARLY_ABOVE_PRICE = 1.5


@dataclass(frozen=True)
class VAEDiagnosis:
    """All that a verdict goes by. None: not known, and left out."""

    usage: LatentUsage
    kl_weight: float | None  # what a nat of KL cost in training; None: no such price
    gain: HeldOutGain | None = None  # on the prior, of a density fitted to latents
    spectrum: WhitenedSpectrum | None = None  # of the training images
    mean_image: float | None = None  # distortion of the mean image, nats per image
    saving: float | None = None  # nats of distortion, in one more dimension, for a nat of KL
    conditional: bool = False  # whether the mean image is that of each class

    @property
    def above_mean_image(self) -> float | None:
        """By what share the distortion is above that of the mean image."""
        if self.mean_image is None:
            return None
        return self.usage.bound["distortion"] / self.mean_image - 1

    @property
    def prior_gap(self) -> float | None:
        """A lower bound of KL(q(z) || p(z)) in nats; of a conditional model, of q(z|y)."""
        if self.gain is None:
            return self.usage.aggregated_kl_at_least
        return self.gain.nats

    @property
    def is_far_from_prior(self) -> bool:
        """Whether samples from the prior come from where no data lie."""
        gap, moments = self.prior_gap, self.usage.prior_gap
        if gap is None:
            return self.kl_weight == 0
        if moments is not None and moments.max() > MAX_GAP_OF_ONE:
            return True
        used = max(int(self.usage.active.sum()), 1)
        return gap > MAX_GAP and gap / used > MAX_GAP_PER_DIMENSION

    @property
    def more_would_pay(self) -> bool:
        """Whether one more dimension would clearly pay at the price of this training."""
        if self.kl_weight is None or self.saving is None:
            return False
        return self.saving > CLEARLY_ABOVE_PRICE * self.kl_weight


def diagnose(model: VAE, evaluation: Evaluation) -> VAEDiagnosis:
    """Diagnose a model on the evaluation's images, and ask what the training images can pay for."""
    train, split = evaluation.data.train, evaluation.split
    spectrum = whitened_spectrum(model, train)
    threshold = has_kl_threshold(model)
    return VAEDiagnosis(
        usage=latent_usage(model, split),
        kl_weight=evaluation.kl_weight,
        gain=held_out_gain(model, train),
        spectrum=spectrum if threshold else None,
        mean_image=None if spectrum is None else spectrum.distortion(model, split),
        saving=unexplained(model, train) if threshold else None,
        conditional=model.num_classes > 0,
    )


def verdict_on(diagnosis: VAEDiagnosis) -> Verdict:
    """The verdict, by the first of these rules that holds.

    COLLAPSED: a KL under MIN_KL, no active unit, or a decoder that ignores z, to which another
    image's z makes less than MIN_SHUFFLED_Z of difference. Not a generative model: a distortion
    above the mean image's by NEAR_MEAN_IMAGE; or an aggregated posterior far from the prior,
    whatever the KL weight: by MAX_GAP and by MAX_GAP_PER_DIMENSION, or by MAX_GAP_OF_ONE. Partly
    collapsed: dimensions are unused though one more is a WORTHWHILE_SAVING. Else healthy:
    dimensions that the data have no use for cost nothing, and a model is none the worse.

    A healthy model may lie a few nats from its prior, as the default VAE does on MNIST (2.6 nats in
    32 dimensions after 1,500 steps): it encodes, reconstructs and bounds the likelihood well, and
    its samples are images of the kind, though not as good as those from a density fitted to the
    latents. So that is no label but a sentence. At KL weight 0 it is 44 nats and more on digits,
    with mean_batch_norm=1, which fixes the moments, still 29.
    """
    usage, weight, saving = diagnosis.usage, diagnosis.kl_weight, diagnosis.saving
    price = sentences.price(diagnosis.spectrum, weight)
    signs = _signs_of_collapse(diagnosis)
    if signs:
        problem = f"z says nothing of the image: {', '.join(signs)}."
        reasons = sentences.why_collapsed(usage, diagnosis.spectrum, weight)
        return Verdict(COLLAPSED, [problem, *reasons])
    above = diagnosis.above_mean_image
    if above is not None and above > NEAR_MEAN_IMAGE:
        problem = f"It has not learned the images: {_beside_mean_image(diagnosis)}."
        return Verdict(NOT_GENERATIVE, [problem, "Try more steps, or another lr.", *price])
    if diagnosis.is_far_from_prior:
        reasons = sentences.why_not_generative(usage, diagnosis.gain, weight)
        return Verdict(NOT_GENERATIVE, reasons)
    use = sentences.latent_use(usage)
    outlook = []
    if saving is not None and saving > WORTHWHILE_SAVING:
        if not usage.active.all():
            reasons = sentences.why_partly(saving, weight, diagnosis.more_would_pay)
            return Verdict(PARTLY, [use, *reasons, *price])
        latent_dim = len(usage.active)
        outlook = sentences.outlook(saving, weight, diagnosis.more_would_pay, latent_dim)
    return Verdict(HEALTHY, [use, *sentences.nearness(usage, diagnosis.gain), *outlook, *price])


def _signs_of_collapse(diagnosis: VAEDiagnosis) -> list[str]:
    usage, above = diagnosis.usage, diagnosis.above_mean_image
    signs = []
    if usage.bound["kl"] < MIN_KL:
        kl = sentences.format_nats(usage.bound["kl"])
        signs.append(f"the KL is {kl} (under {MIN_KL:g})")
    if not usage.active.any():
        signs.append(f"none of {len(usage.active)} dimensions is active")
    if usage.shuffled_z < MIN_SHUFFLED_Z:
        cost = sentences.format_nats(usage.shuffled_z)
        near_mean = above is not None and abs(above) < NEAR_MEAN_IMAGE
        beside = _beside_mean_image(diagnosis) if near_mean else ""
        signs.append(beside or f"decoding from another image's z costs {cost}")
    return signs


def _beside_mean_image(diagnosis: VAEDiagnosis) -> str:
    distortion = diagnosis.usage.bound["distortion"]
    mean_image = "the mean image of each class" if diagnosis.conditional else "the mean image"
    return (
        f"the distortion is {distortion:.1f} nats where that of {mean_image} is "
        f"{diagnosis.mean_image:.1f}"
    )
