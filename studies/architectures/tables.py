"""The table of docs/models.md."""

from collections.abc import Mapping, Sequence
from typing import Any

_ALWAYS = " cannot be used, its own probabilities are not reproduced"


def table(rows: Sequence[Mapping[str, Any]], libraries: Mapping[str, str]) -> str:
    """Count how the architectures ended, and list them."""
    accepted = [row for row in rows if row["engine"]]
    fast = sum(row["engine"] == "fast" for row in accepted)
    everywhere = sum(row["adapter"] in ("fast", "plain") for row in accepted)
    others = [str(row["refused"]) for row in rows if not row["engine"]]
    idle = sum(reason.startswith("not tried") for reason in others)
    equal = f"{len(accepted)} are equal to the model ({fast} on the fast engine)"
    head = (
        f"transformers {libraries['transformers']}, peft {libraries['peft']}: of {len(rows)} architectures {equal}, "
        f"{everywhere} of these also with an adapter on every linear layer, the head's too; {len(others) - idle} are "
        f"refused in one line; for {idle} no tiny model could be made; {sum(bool(row['wrong']) for row in rows)} are "
        "accepted and wrong."
    )
    lines = [head, "", "| architecture | ends | with an adapter on every linear layer |", "|---|---|---|"]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _line(row: Mapping[str, Any]) -> str:
    reason = _short(row["refused"])
    ends = f"equal, {row['engine']}" if row["engine"] else reason if "not tried" in reason else f"refused: {reason}"
    adapter = row["adapter"] or ""
    if row["engine"]:
        adapter = f"equal, {adapter}" if adapter in ("fast", "plain") else f"refused: {_short(adapter)}"
    return f"| {row['kind']} | {row['wrong'] or ends} | {adapter} |"


def _short(reason: str | None) -> str:
    text = (reason or "no answer").replace("artifacts/base: ", "").replace(_ALWAYS, "").replace("|", "\\|")
    return text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " …"
