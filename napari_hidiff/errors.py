"""The exceptions of the package: bad input, and a refiner that cannot run packed.

Each message is one clear line for the user.
"""


class Unpackable(Exception):
    """This refiner, or this machine, does not support the packed engine; torch runs instead."""


class InputError(ValueError):
    """Unusable input; ``str(error)`` is one clear line for the user.

    Commands print the line and leave with exit status 2, the plugin shows it as a notification.
    """


def refused(error: OSError) -> str:
    """The reason of a failed read or write, in a few words."""
    return error.strerror or f"the disk may be full ({error})"  # NumPy's error has no strerror


def first_line(error: BaseException) -> str:
    """The message of an error as one printable line of at most 200 characters; of a file that
    cannot be read or written, the reason alone."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]  # a list of reasons
    return short(line, 200)


def short(text: str, most: int = 80) -> str:
    """A text from a file for a message: printable, at most ``most`` characters."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"
