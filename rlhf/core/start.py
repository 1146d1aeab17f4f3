"""Check, before a stage does anything, that it starts from the parameters and inputs that the user has."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.core import chain
from rlhf.core.errors import UserError
from rlhf.core.experiment import check_inputs_came
from rlhf.core.layout import Layout
from rlhf.core.params import read_resolved, write_resolved
from rlhf.core.stale import differences, summary

PARAMS, PROFILES = Path("params.yaml"), Path("profiles")


def begin(at: Layout, sections: Mapping[str, Any]) -> None:
    """Write the parameters that `resolve` has checked, from which all stages of this DVC command take theirs.

    Raises:
        UserError: an input did not come along to the folder of an experiment.
    """
    check_inputs_came(sections)
    write_resolved(at.resolved, sections)
    chain.mark()


def check_start(at: Layout) -> str | None:
    """Check a stage other than `resolve`; returns a line to show, if there is one.

    What is edited while `dvc repro` is at work counts the next time: all stages of one command have the parameters
    that `resolve` found at its start. `dvc exp run` in the workspace commits params.yaml as it is at the end, under
    results of what it was, so there an edit ends the run at the next stage.

    Raises:
        UserError: params.resolved.json is not what params.yaml and the profile make, or an input did not come along to
            the folder of an experiment.
    """
    begun = chain.begun()
    try:
        found = summary(differences(at.resolved, PARAMS, PROFILES))
    except UserError as error:
        if not begun or not at.resolved.is_file():
            raise
        found = str(error).partition("\n")[0]
    if found and begun and "DVC_EXP_NAME" not in os.environ:
        return f"{PARAMS} or its profile was edited while this runs ({found}); that counts the next time"
    if found and begun:
        raise UserError(
            f"{PARAMS} or its profile was edited while this experiment runs ({found}), and DVC would file that under "
            "results of other values; take the edit back, and run it again: what is finished is kept"
        )
    if found:
        raise UserError(
            f"{at.resolved} is not what {PARAMS} and its profile make ({found}); `dvc repro resolve` first, or run "
            "without -s"
        )
    if not begun:
        check_inputs_came(read_resolved(at.resolved))
        chain.mark()
    return None
