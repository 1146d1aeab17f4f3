"""Errors that are meant for the person at the keyboard."""


class UserError(Exception):
    """An error the user can put right: one line that names the file, line or key, what was found, what is allowed.

    Stages print it without a traceback and exit with status 1.
    """


class Stopped(Exception):  # noqa: N818 - a request that was met, not an error
    """A stage was asked to stop (SIGINT, SIGTERM) and has saved its state; stages exit with status 130."""
