"""What every command shares: how it runs and how it fails."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable

from nnunetv2_promise.errors import UserError

EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 141


def run_command(command: Callable[[], None]) -> int:
    """Run a command and turn user errors into one line on stderr.

    Args:
        command: The work, without arguments.

    Returns:
        0, or 2 after bad input (``UserError``, a full disk, a file that may not be read or written),
        130 after Ctrl-C, or 141 if the reader of the output has gone.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("numexpr").setLevel(logging.WARNING)
    try:
        command()
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone (``| head``); give the interpreter's last flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        name = error.filename2 or error.filename or "output"
        return _fail(f"{name}: {error.strerror}. Free space or change the folder and run again.")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _fail(message: str) -> int:
    print("Error: " + " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return EXIT_BAD_INPUT
