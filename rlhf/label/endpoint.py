"""Make the endpoint of a labelling command: settings of `evaluate.judge`, but for what the command line says."""

from collections.abc import Mapping
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.judge.client import Endpoint
from rlhf.judge.keys import read_key
from rlhf.judge.names import Names
from rlhf.judge.params import JudgeParams

NAMES = Names("label: --", "")


def make_endpoint(judge: Mapping[str, Any], options: Mapping[str, Any], *, logprobs: int = 0) -> Endpoint:
    """Make an endpoint of the resolved section `evaluate.judge` and of options, of which None is not given.

    Where an option names another address, the key is the one that `key_env` among the options names: a key goes to
    nobody whom it was not meant for.

    Raises:
        UserError: no address or no model is known, a value is not allowed, or the key is missing.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "endpoint" in given and given["endpoint"].rstrip("/") != str(judge.get("endpoint", "")).rstrip("/"):
        given = {"key_env": "", **given}
    settings = {**judge, **given, "prompts": 1}
    for name, example in (("endpoint", "http://127.0.0.1:8000/v1"), ("model", "my-model")):
        if not settings.get(name):
            raise UserError(
                f"{NAMES(name)}: none is given, and evaluate.judge.{name} is empty; one is needed, as {example}"
            )
    try:
        params = check(JudgeParams, settings, where="label")
    except UserError as error:  # one problem is enough
        raise UserError(str(error).split("\n")[0][:400]) from None
    return Endpoint(params, names=NAMES, logprobs=logprobs)


def check_key(endpoint: Endpoint) -> None:
    """Raise UserError where the key of an endpoint is missing, before any work."""
    read_key(endpoint.params.key_env, endpoint.params.endpoint, endpoint.names)
