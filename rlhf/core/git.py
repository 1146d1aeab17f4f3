"""The environment for git commands that are about a folder of ours."""

import os

# What git sets for hooks and aliases, and a user may have set: with any of it, git looks at another repository than the
# folder's own, and a checkout changes that one.
_ELSEWHERE = {
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_SHALLOW_FILE",
}  # fmt: skip


def environment() -> dict[str, str]:
    """Return this process's environment without what leads git to another repository than the folder's own."""
    return {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
