"""When things happen: the next preview, the next checkpoint, the end.

Idea: a preview or a checkpoint changes nothing in the training, so it may come by the clock.  The end may not: the
learning rate falls towards it.  `--minutes` therefore measures the speed while the learning rate still rises, which
does not depend on the end, fixes the number of steps once, and from there on the run is that of `--steps`, to the bit.
In training/ before loop.py.
"""

from minidiff.limits import LIMITS

LEFT_OUT = 2  # the first steps compile kernels and touch memory for the first time
MEASURED_SECONDS = 20.0
MEASURED_SHARE = 0.2  # of the minutes, where these are few
MARGIN = 0.97  # of the time that is left is planned; the rest is for checkpoints and for a machine that has other work


class Every:
    """Says when something is due that comes every `steps` steps or, if that is None, every `seconds` seconds.

    first: by the clock, the seconds until the first time.
    """

    def __init__(self, steps: int | None, seconds: float, first: float) -> None:
        self.steps, self.seconds, self.next = steps, seconds, first

    def due(self, step: int, elapsed: float) -> bool:
        """Whether it is due after this step, `elapsed` seconds after the start; if so, it counts as done."""
        if self.steps is not None:
            return step % self.steps == 0
        if elapsed < self.next:
            return False
        self.next = elapsed + self.seconds
        return True


class Budget:
    """Turns minutes for the whole command into a number of steps, from the speed of this process' first steps."""

    def __init__(self, minutes: float, warmup: int) -> None:
        self.seconds = 60 * minutes
        self.last = min(warmup, 2**31)
        self.measured: list[float] = []

    def ready(self, step: int, seconds: float) -> bool:
        """Take in that step number `step` took so long; say whether enough is known to plan.

        That is after 20 seconds, less if there are only few minutes, and at latest when the warm-up ends.
        """
        self.measured.append(seconds)
        enough = min(MEASURED_SECONDS, MEASURED_SHARE * self.seconds)
        several = len(self.measured) > LEFT_OUT + 1
        return step >= self.last or (several and sum(self.measured[LEFT_OUT:]) >= enough)

    @property
    def step_seconds(self) -> float:
        """The mean time of a step."""
        counted = self.measured[LEFT_OUT:] or self.measured
        return max(sum(counted) / len(counted), 1e-9)  # a coarse clock may have seen no time pass

    def steps(self, step: int, elapsed: float, preview: float, previews_every: float, final: float) -> int:
        """Return the last step, at least `step`, such that all is done when the minutes are over.

        elapsed: seconds since the start.  preview, final: seconds that a preview and the final images take.
        previews_every: seconds from one preview to the next.
        """
        left = MARGIN * (self.seconds - elapsed) - final
        training = left * previews_every / (previews_every + preview)
        most = int(LIMITS["steps"].most)
        return min(max(step + int(min(training / self.step_seconds, most)), step, 1), most)


def too_late(step: int, warmup: int) -> bool:
    """Whether a run at this step is past the rise of the learning rate, so that `--minutes` can no longer plan it."""
    return step >= warmup
