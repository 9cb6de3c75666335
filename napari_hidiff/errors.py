"""The one exception that means: the input was wrong, and here is a line that says how.

Why a refiner cannot run packed, in one clear line.
"""


class Unpackable(Exception):
    """This refiner, or this machine, is not for the packed engine; torch runs it instead."""


class InputError(ValueError):
    """Something a user gave cannot be used; ``str(error)`` is one clear line for that user.

    Commands print the line and leave with exit status 2, the plugin shows it as a notification.
    """


def refused(error: OSError) -> str:
    """Why the system refused to read or write, in a few words."""
    return error.strerror or f"the disk may be full ({error})"  # NumPy's error has no more


def first_line(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters that can be printed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]  # a list of reasons
    return short(line, 200)


def short(text: str, most: int = 80) -> str:
    """A text that a file holds as a message shows it: printable, at most that long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"
