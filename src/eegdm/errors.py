"""The one exception for faults that a user can mend, and the one for being asked to end."""


class UserError(ValueError):
    """Says in one line what was found, what is allowed and what to do next.

    The command line prints it without a traceback and exits with status 2.
    """


def one_line(error: BaseException, limit: int | None = 200) -> str:
    """Return what an exception says, in one line of at most ``limit`` characters; its class, if it
    says nothing.
    """
    return " ".join(str(error).split())[:limit] or type(error).__name__


def failure_reason(error: BaseException) -> str:
    """Return why something failed, in one line; of what is not a :class:`UserError` with its
    class.
    """
    if isinstance(error, UserError):
        return one_line(error, None)
    name, text = type(error).__name__, one_line(error, 500)
    return text if text == name else f"{name}: {text}"


class Interrupted(BaseException):
    """The user or the system asked this process to end (SIGINT, SIGTERM); no handler of faults must
    take it for one.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
