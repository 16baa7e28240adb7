"""The one exception for faults that a user can mend."""


class UserError(ValueError):
    """Says in one line what was found, what is allowed and what to do next.

    The command line prints it without a traceback and exits with status 2.
    """
