"""Does a GAN's discriminator D still teach the generator G anything? Rules on its logits."""

from dataclasses import dataclass

CONSTANT = "D is constant"
OVERFITS = "D overfits"
WINS = "D wins"

MIN_LOGIT_STDDEV = 0.01  # over images: with less D says the same of all
MAX_REAL_ABOVE_FAKE = 0.95  # of pairs: a D that is right in more is hardly ever wrong
MAX_MEMORISATION = 0.1  # more of the pairs on training images: D knows those by heart

PENALTIES = "a stronger penalty (penalty.r1, penalty.r2)"


@dataclass(frozen=True)
class DiscriminatorDiagnosis:
    """What is known of D."""

    real_above_fake: float  # see `Logits`; of images that D has not seen
    real_above_fake_train: float  # of training images
    logit_stddev: float  # over samples and images that D has not seen
    saturates: bool = True  # whether its loss does: see `AdversarialLoss`

    @property
    def pairs(self) -> str:
        """How well it tells real images from generated ones, as a sentence."""
        return (
            f"D puts training images above generated ones in {self.real_above_fake_train:.1%} of "
            f"pairs, images that it was not trained on in {self.real_above_fake:.1%} (50 %: it "
            "cannot tell)."
        )


@dataclass(frozen=True)
class DiscriminatorProblem:
    """What is wrong with D, and what to try."""

    label: str
    sentence: str
    remedies: str


def problem_of(diagnosis: DiscriminatorDiagnosis) -> DiscriminatorProblem | None:
    """The first of these rules that holds, if any.

    D is constant: its logits vary by less than MIN_LOGIT_STDDEV. D overfits: it tells training
    images from generated ones better than unseen images, by MAX_MEMORISATION. D wins: it tells
    unseen ones in more than MAX_REAL_ABOVE_FAKE of pairs, and its loss saturates.
    """
    unseen, trained = diagnosis.real_above_fake, diagnosis.real_above_fake_train
    if diagnosis.logit_stddev < MIN_LOGIT_STDDEV:
        return DiscriminatorProblem(
            CONSTANT,
            "D says the same of all images (the standard deviation of its logits is "
            f"{diagnosis.logit_stddev:.2g}), and G learns nothing from that.",
            "a weaker penalty (penalty.r1, penalty.r2), another trainer.discriminator.lr",
        )
    if trained - unseen > MAX_MEMORISATION:
        return DiscriminatorProblem(
            OVERFITS,
            f"{diagnosis.pairs} It knows training images by heart, and teaches G those.",
            "stronger augmentation (diff_augment, augment.flip), fewer epochs, a smaller "
            f"model.discriminator_width, {PENALTIES}",
        )
    if unseen > MAX_REAL_ABOVE_FAKE and diagnosis.saturates:
        return DiscriminatorProblem(
            WINS,
            f"{diagnosis.pairs} It is hardly ever wrong, and G learns little from that.",
            f"a smaller trainer.discriminator.lr, {PENALTIES}, a larger model.generator_width, "
            "more steps",
        )
    return None
