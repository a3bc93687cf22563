"""What every command shares: how it runs and how it fails."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable

from nnunetv2_promise.errors import UserError

EXIT_BAD_INPUT = 2


def run_command(command: Callable[[], None]) -> int:
    """Run a command and turn user errors into one line on stderr.

    Args:
        command: The work, without arguments.

    Returns:
        0, or 2 after bad input (``UserError``, a full disk, a file that may not be read or written),
        or 130 after Ctrl-C.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        command()
    except UserError as error:
        return _fail(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return _fail(f"{error.filename or 'output'}: {error.strerror}. Free space or change the folder and run again.")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _fail(message: str) -> int:
    print("Error: " + " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return EXIT_BAD_INPUT
