"""Simulated disks on which something happens at a chosen call: it fails once, or somebody else acts first."""

from __future__ import annotations

from collections.abc import Callable

from simulated_fs import SimulatedFileSystem


class FailingDisk(SimulatedFileSystem):
    """Fails the next call whose description begins with `fails`, once, with `error`."""

    fails = ""

    def _step(self, what, *, torn=None):
        if self.fails and what.startswith(self.fails):
            self.fails = ""
            raise OSError(self.error, "injected", what)
        super()._step(what, torn=torn)


class SharedDisk(SimulatedFileSystem):
    """Before the next file with `at` in its path is made, somebody else acts, once."""

    at = ""

    def then(self, at: str, act: Callable[[], object]) -> None:
        """Let `act` happen there."""
        self.at, self.act = at, act

    def write_new(self, path, data):
        if self.at and self.at in path:
            self.at = ""
            self.act()
        super().write_new(path, data)
