"""Find and read winners that have a column for each reply: flags of which one is true (`winner_model_a`,
`winner_model_b`, `winner_tie`), or scores (`score_0`, `score_1`), the higher the better."""

import re
from collections.abc import Mapping, Sequence

from rlhf.prepare.literals import as_label, as_number
from rlhf.prepare.rows import RuleBroken

_FLAG = re.compile(r"(?:is)?winner(?:is|model|assistant|response|answer|reply|output)?(a|b|0|1|2|tie|tied|draw)")
_SCORE = re.compile(r"(?:score|rating|reward)(a|b|0|1|2)")
_TIES = ("tie", "tied", "draw")
_SUFFIXES = (("a", "b"), ("1", "2"), ("0", "1"))


def find_sides(names: Sequence[str], first: str | None) -> tuple[str, str, str | None] | None:
    """Find the columns of the first reply, the second one, and a tie where there is one; None where there are none.

    `first`: the column of the first reply. Where it ends in another number than the flag's or score's own, they do not
    belong together.
    """
    for family in (_FLAG, _SCORE):
        found = {match[1]: name for name in names if (match := family.fullmatch(_bare(name)))}
        tie = next((found[word] for word in _TIES if word in found), None)
        for one, other in _SUFFIXES:
            if {*found} - {*_TIES} == {one, other} and _together(first, one):
                return found[one], found[other], tie
    return None


def side_of(values: Mapping[str, object]) -> int | None:
    """Return 0 where the first reply has won, 1 for the second, None for a tie. `values`: a row's, by the names that
    `find_sides` has found and in that order.

    Raises:
        RuleBroken: wrong_type; a value is no flag or number, or not just one flag is true.
    """
    return _by_flags(values) if _FLAG.fullmatch(_bare(next(iter(values)))) else _by_scores(values)


def _by_flags(values: Mapping[str, object]) -> int | None:
    flags = [as_label(name, value) for name, value in values.items()]
    with_tie = len(flags) > 2
    if sum(flags) > 1 or (with_tie and not any(flags)):
        raise RuleBroken("wrong_type", f"{', '.join(values)}: expected one of them to be true, found {sum(flags)}")
    return flags.index(True) if any(flags[:2]) else None


def _by_scores(values: Mapping[str, object]) -> int | None:
    one, other = (as_number(name, value) for name, value in list(values.items())[:2])
    return None if one == other else int(other > one)


def _bare(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name.lower())


def _together(first: str | None, suffix: str) -> bool:
    end = (first or "")[-1:]
    return not (end.isdigit() and suffix.isdigit() and end != suffix)
