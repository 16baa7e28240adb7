"""The one exception for faults that a user can mend, and the one for being asked to end."""


class UserError(ValueError):
    """Says in one line what was found, what is allowed and what to do next.

    The command line prints it without a traceback and exits with status 2.
    """


class Interrupted(BaseException):
    """The user or the system asked this process to end (SIGINT, SIGTERM); no handler of faults must
    take it for one.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
