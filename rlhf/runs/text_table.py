"""Lay out a table for a terminal or as Markdown."""

from collections.abc import Sequence


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> list[str]:
    """Return the lines of a table. Columns of a terminal's are aligned; numbers and texts alike to the left."""
    if markdown:
        cells = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
        lines = [f"| {' | '.join(row)} |" for row in cells]
        return [lines[0], "|---" * len(head) + "|", *lines[1:]]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return [f"  {line}".rstrip() for line in padded]


def number(value: float | None) -> str:
    """Format with four significant digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"
