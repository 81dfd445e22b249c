"""The errors that travel between rooms; foreign exceptions are translated into these where they enter."""


class Unavailable(Exception):
    """This cannot work on this machine as it is: `reason` says why, `remedy` what the reader can do about it."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}: {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class Follows(Unavailable):
    """What this is made of is not read; the source that reads it says why, so that the log need not say it twice."""


class ReadError(Exception):
    """This should work here, and did not this time."""


class SettingsError(Exception):
    """What was set cannot be used; every problem is listed, each naming its variable."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
