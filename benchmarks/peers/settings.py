"""What the command's options come to, for all sections."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """rounds: timings of each engine.  threads: of each engine.  quick: tiny problems once, to try the benchmark."""

    rounds: int
    threads: int
    quick: bool = False

    @property
    def least(self) -> float:
        """Seconds that one timing takes at least: a clock and a scheduler disturb 50 ms by well under a percent."""
        return 0.0 if self.quick else 0.05
