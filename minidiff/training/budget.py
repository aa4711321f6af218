"""Deciding when a preview or a checkpoint is due, and which step is the last one.

Idea: a preview or a checkpoint does not affect the training, so elapsed time may decide when it is due.  Elapsed time
must not decide when the training ends, because after the warm-up the learning rate depends on the number of steps.
`--minutes` therefore measures the speed during the warm-up and fixes the number of steps once.  From then on the run is
identical, to the bit, to one with `--steps` and this number.
Leaves out making previews and checkpoints: preview.py, checkpoint/.
"""

from minidiff.limits import LIMITS

LEFT_OUT = 2  # steps that are not counted: the first ones compile kernels and touch memory for the first time
MEASURED_SECONDS = 20.0
MEASURED_SHARE = 0.2  # of the minutes, if that is less
MARGIN = 0.97  # of the remaining time is planned; the rest is for checkpoints and other load on the machine


class Periodic:
    """Says when something is due that happens every `steps` steps or, if `steps` is None, every `seconds` seconds.

    first: the seconds from the start until it is due for the first time, if `steps` is None.
    """

    def __init__(self, steps: int | None, seconds: float, first: float) -> None:
        self.steps, self.seconds, self.next = steps, seconds, first

    def due(self, step: int, elapsed: float) -> bool:
        """Return whether it is due after this step, `elapsed` seconds after the start; if so, it counts as done."""
        if self.steps is not None:
            return step % self.steps == 0
        if elapsed < self.next:
            return False
        self.next = elapsed + self.seconds
        return True


class Budget:
    """Turns minutes for the whole command into a number of steps, from the speed of the first steps.

    minutes: for the whole command.  warmup: steps of the warm-up, after which the number of steps must be known.
    """

    def __init__(self, minutes: float, warmup: int) -> None:
        self.seconds = 60 * minutes
        self.last = min(warmup, 2**31)
        self.measured: list[float] = []

    def ready(self, step: int, seconds: float) -> bool:
        """Record the seconds that a step took; return whether enough steps were measured to fix the last step.

        Enough are 20 seconds of steps, or a fifth of the minutes if that is less, or all steps of the warm-up.
        """
        self.measured.append(seconds)
        enough = min(MEASURED_SECONDS, MEASURED_SHARE * self.seconds)
        several = len(self.measured) > LEFT_OUT + 1
        return step >= self.last or (several and sum(self.measured[LEFT_OUT:]) >= enough)

    @property
    def step_seconds(self) -> float:
        """The mean seconds of a step."""
        counted = self.measured[LEFT_OUT:] or self.measured
        return max(sum(counted) / len(counted), 1e-9)  # a coarse clock may show no time at all

    def steps(self, step: int, elapsed: float, preview: float, previews_every: float, final: float) -> int:
        """Return the last step, at least `step`, so that the command ends when the minutes are over.

        elapsed: seconds since the start.  preview, final: seconds that a preview and the final images take.
        previews_every: seconds from one preview to the next.
        """
        left = MARGIN * (self.seconds - elapsed) - final
        training = left * previews_every / (previews_every + preview)
        most = int(LIMITS["steps"].most)
        return min(max(step + int(min(training / self.step_seconds, most)), step, 1), most)


def too_late(step: int, warmup: int) -> bool:
    """Return whether a run at this step is past the warm-up, so that `--minutes` can no longer plan it."""
    return step >= warmup
