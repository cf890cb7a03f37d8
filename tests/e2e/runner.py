"""Runs the tests of a script: `@test` marks them, `main()` at its end runs them.

`script.py [NAME...]` runs those with one of the names, or, where no test has it, with it in theirs. Each test prints a line with what it gave
back; the last line counts. A missing program skips its test, or fails it when PATCHBAY_REQUIRE_PEERS is set.
"""
import os
import sys
import time
import traceback

TESTS = []


class Skip(Exception):
    """A peer is missing."""


def test(function):
    TESTS.append(function)
    return function


def main(words=None, more=(), before=lambda: None):
    """Tests of the script that was started, not of those that it imports, behind those of `more`; `before` is called ahead of each."""
    tests = [*more, *(case for case in TESTS if case.__module__ == "__main__")]
    words = sys.argv[1:] if words is None else words
    names = {case.__name__ for case in tests}
    fits = lambda name, word: name == word if word in names else word in name
    chosen = [case for case in tests if not words or any(fits(case.__name__, word) for word in words)]
    unknown = [word for word in words if not any(fits(name, word) for name in names)]
    passed = skipped = 0
    failed = len(unknown)
    for word in unknown:
        print(f"FAILED {word}: there is no such test", flush=True)
    for case in chosen:
        name, start = case.__name__, time.monotonic()
        try:
            before()
            said = case()
            passed += 1
            print(f"ok {name} ({time.monotonic() - start:.1f} s){f': {said}' if said else ''}", flush=True)
        except Skip as reason:
            required = bool(os.environ.get("PATCHBAY_REQUIRE_PEERS"))
            failed, skipped = failed + required, skipped + (not required)
            print(f"{'FAILED' if required else 'skipped'} {name}: {reason}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED {name}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)
