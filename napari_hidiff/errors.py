"""The one exception that means: the input was wrong, and here is a line that says how."""


class InputError(ValueError):
    """Something a user gave cannot be used; ``str(error)`` is one clear line for that user.

    Commands print the line and leave with exit status 2, the plugin shows it as a notification.
    """


def refused(error: OSError) -> str:
    """Why the system refused to read or write, in a few words."""
    return error.strerror or f"the disk may be full ({error})"  # NumPy's error has no more


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
