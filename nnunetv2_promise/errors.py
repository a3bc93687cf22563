"""The one error class for everything that a user can fix."""


class UserError(ValueError):
    """Bad input: one sentence that names the file, what is wrong and what to do.

    The command line prints it on stderr and exits with 2; in Python it is an ordinary ``ValueError``.
    """
