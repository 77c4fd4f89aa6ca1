"""A metric of any generative model: are its samples as bright as the images?"""

from genmodels.metrics.evaluation import Evaluation
from genmodels.models.generative import GenerativeModel


def brightness(model: GenerativeModel, evaluation: Evaluation) -> dict[str, float]:
    """`brightness_gap`: the distance of the mean brightness of samples and images, in [0, 1]."""
    fake = evaluation.generated.batch(slice(None)).images.mean()
    real = evaluation.split.batch(slice(None)).images.mean()
    return {"brightness_gap": (fake - real).abs().item(), "n": len(evaluation.generated)}
