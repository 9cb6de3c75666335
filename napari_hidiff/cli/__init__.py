"""The commands; their entry points import what they need when they are called."""

from typing import NoReturn


def main() -> NoReturn:
    """Entry point of ``napari-hidiff``."""
    from napari_hidiff.cli.app import main

    main()


def refine_main() -> NoReturn:
    """Entry point of ``napari-hidiff-refine``."""
    from napari_hidiff.cli.app import refine_main

    refine_main()
