"""Says whether an exercise is solved: every exercise ends with `sys.exit(report(check))`."""

from collections.abc import Callable


def report(check: Callable[[], None]) -> int:
    """Run a check, print "solved" or "not yet" with the reason, and return the exit code, 0 or 1."""
    try:
        check()
    except NotImplementedError:
        print("not yet: nothing is filled in")
    except Exception as error:  # whatever a half-finished solution raises is a reason, not a crash of the check
        print(f"not yet: {' '.join(str(error).split()) or 'no reason given'} ({type(error).__name__})")
    else:
        print("solved")
        return 0
    return 1


def expect(holds: bool, otherwise: str) -> None:
    """Raise AssertionError, which says what is wrong, unless the condition holds."""
    if not holds:
        raise AssertionError(otherwise)
