"""A clock for tests, in the place of the module `time`."""


class Time:
    """The clocks that the node looks at; they go on when the test says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def time(self) -> float:
        return 1_700_000_000.0 + self.at
