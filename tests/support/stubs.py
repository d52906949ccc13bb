"""Functions in the places of others, which prove that the patched name is the one in use."""

import contextlib
import functools

import pytest


class Stubs:
    """Patches functions for a while; at `check`, each must have been called, and those of `never` must not.

    Constants need no proof: `monkeypatch.setattr` is for them.
    """

    def __init__(self, patch):
        self.patch, self.idle, self.unwanted = patch, set(), []

    def __call__(self, *target, **options):
        """As `monkeypatch.setattr`: ("package.module.name", function) or (owner, "name", function)."""
        *place, function = target

        @functools.wraps(function)
        def counted(*arguments, **named):
            self.idle.discard(counted)
            return function(*arguments, **named)

        counted.place = place[-1]
        self.idle.add(counted)
        self.patch.setattr(*place, counted, **options)

    def never(self, *place):
        """What lies at `place` must not be called."""

        def refuse(*_, **__):
            self.unwanted.append(place[-1])
            pytest.fail(f"{place[-1]} was called")

        self.patch.setattr(*place, refuse)

    def check(self):
        """Fails if a stub was not called, or what must not be called was (in a thread, say)."""
        assert not self.idle, f"called by nothing: {[stub.place for stub in self.idle]}"
        assert not self.unwanted, f"called: {self.unwanted}"


@contextlib.contextmanager
def stubbing():
    """Stubs for the length of a block."""
    with pytest.MonkeyPatch.context() as patch:
        stubs = Stubs(patch)
        yield stubs
        stubs.check()
