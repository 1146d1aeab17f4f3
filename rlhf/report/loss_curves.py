"""Draw the loss curves of a training stage."""

from rlhf.report.content import Block
from rlhf.report.draw import Labels, Series, lines
from rlhf.report.inputs import Inputs


def losses(run: Inputs, name: str, caption: str, x: str, y: str) -> list[Block]:
    """Draw training and validation loss of plots/<name>.csv, whichever it has."""
    series = [
        Series(label, [row[x] for row in rows], [row[column] for row in rows])
        for column, label in (("train_loss", "training"), ("validation_loss", "validation"))
        if (rows := run.curve(name, x, column))
    ]
    return [lines(series, Labels(f"{name}-loss", x, y, caption))] if series else []
