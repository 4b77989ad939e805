"""Every exception a user can meet. One class per mistake; each message ends with what to type."""

from __future__ import annotations


class T4DMError(Exception):
    """Base of all errors that the command line prints as one line, without a traceback."""


class MissingExtra(T4DMError):
    """An optional dependency is not installed.

    Args:
        package: the import that failed, for example `"bitsandbytes"`.
        extra: the extra of this project that brings it, for example `"gpu"`.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 't4dm[{extra}]'")
