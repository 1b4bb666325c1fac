"""Counts checks that hvac makes, and says which failed."""

import sys
import time
import traceback

from hvac import exceptions

SPREAD_SECONDS = 20  # for what nodes learn from their peers a moment later


class Checks:
    """Runs checks and counts them."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def equal(self, name, ask, want):
        """`ask()` must return `want`."""

        def check():
            found = ask()
            assert found == want, f"found {found!r}, want {want!r}"

        return self.run(name, check)

    def raises(self, name, ask, kind, text=""):
        """`ask()` must raise exactly `kind`, with `text` in its message."""

        def check():
            try:
                found = ask()
            except exceptions.VaultError as error:
                assert type(error) is kind, f"raised {error!r}, want {kind.__name__}"
                assert text in str(error), f"raised {error!r}, want {text!r} in it"
            else:
                raise AssertionError(f"found {found!r}, want {kind.__name__}")

        return self.run(name, check)

    def run(self, name, check):
        """`check()` must return; what it returns is returned, and None if it fails."""
        try:
            result = check()
        except Exception:  # whatever goes wrong is a failed check
            self.failed += 1
            print(f"FAILED  {name}: {traceback.format_exc()}")
            return None
        self.passed += 1
        print(f"ok      {name}")
        return result

    def finish(self, least):
        if self.passed + self.failed < least:
            self.failed += 1
            print(f"FAILED  there are {least} checks or more")
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)


def eventually(ask, want):
    """Asks until the answer is `want`, or time is up; returns the last answer."""
    deadline = time.monotonic() + SPREAD_SECONDS
    while (found := ask()) != want and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
