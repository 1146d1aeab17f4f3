"""Name settings of an endpoint in errors, as whoever has set them knows them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Names:
    """What stands before a setting's name: a section of params.yaml, or a command and the dashes of its option."""

    prefix: str = "evaluate.judge."
    without: str = " (evaluate.judge.prompts 0: no judge)"  # how to do without an endpoint

    def __call__(self, setting: str) -> str:
        """Name a setting, as "key_env"."""
        return self.prefix + (setting.replace("_", "-") if self.prefix.endswith("--") else setting)


JUDGE = Names()
