"""How many tokens a model can attend to."""

from collections.abc import Mapping
from typing import Any

NO_LIMIT = 2**30  # of models without a table of positions (BLOOM, state spaces); longer than any sequence
_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


def context_of(config: Mapping[str, Any]) -> int:
    """Return the smallest number of positions that the config names, in tokens; NO_LIMIT where it names none.

    `config`: as `to_dict` gives it, or as config.json holds it. It is the model's own promise: whether sequences of
    the length that a run needs go through, the stage conformance tries out.
    """
    text = config.get("text_config")
    places = [config, text] if isinstance(text, Mapping) else [config]
    sizes = [place[key] for place in places for key in _KEYS if _is_count(place.get(key))]
    return min(sizes, default=NO_LIMIT)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
