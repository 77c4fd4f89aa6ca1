"""The picture of a sweep: how its runs went, and what they make now."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from genmodels.figures.canvas import stacked_axes, styled

WIDTH = 13      # inches
UNITS = {"accuracy": "share of the images", "active_units": "latent dimensions", "spread": "times that of real images",
         "twins": "share of the samples", "real_above_fake": "share of the pairs"}      # where not in nats per image

Curve = tuple[Sequence[int], Sequence[float]]       # steps, values


@styled
def curves_over_samples(curves: Mapping[str, Mapping[str, Sequence[Curve]]],
                        sheets: Mapping[str, np.ndarray]) -> Figure:
    """Axes for each metric, with a colour for each setting and a line for each of its runs; sheets of samples below.

    curves: metric -> setting -> one curve a run. sheets: setting -> (H, W, 3 or 4).
    """
    heights = [WIDTH / len(sheets) * sheet.shape[0] / sheet.shape[1] + 0.5 for sheet in sheets.values()]
    figure, (above, below) = stacked_axes(WIDTH, [3.8, max(heights, default=0.01)], [len(curves), len(sheets)])
    for axes, (metric, settings) in zip(above, curves.items(), strict=True):
        for index, (setting, runs) in enumerate(settings.items()):
            for number, (steps, values) in enumerate(runs):
                axes.plot(steps, values, color=f"C{index % 8}", marker=".", label=setting if number == 0 else None)
        axes.set(title=f"validation {metric}", xlabel="step", ylabel=UNITS.get(metric, "nats per image"))
        if axes is above[0] and len(settings) > 1:
            axes.legend(fontsize=8)
    for axes, (setting, sheet) in zip(below, sheets.items(), strict=True):
        axes.imshow(sheet, interpolation="nearest")
        axes.set_title(setting or "samples", fontsize=10)
        axes.set_axis_off()
    return figure
