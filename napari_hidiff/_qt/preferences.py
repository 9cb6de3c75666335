"""The plugin's page in napari's Preferences (declared in napari.yaml)."""

from napari.settings import get_plugin_settings

PLUGIN = "napari-hidiff"

BY_CARD = "card"
"""The preferred sampler where the model's card is to say."""


def device() -> str:
    """The device that the widget starts with: auto, cpu, cuda or mps."""
    return str(_read("work", "device", "auto"))


def keep_strokes() -> bool:
    """Whether strokes and accepted masks are kept in a sidecar."""
    return bool(_read("work", "keep_strokes", True))


def sampler() -> str | None:
    """The sampler that every model starts with; None = what its card recommends."""
    chosen = str(_read("work", "sampler", BY_CARD))
    return None if chosen == BY_CARD else chosen


def near() -> bool:
    """Whether *Near my strokes* is on to begin with."""
    return bool(_read("work", "near", False))


def opacity() -> float:
    """The opacity of new masks, 0..1."""
    return float(str(_read("look", "opacity", 0.7)))


def hint() -> bool:
    """Whether the first-run hint is shown."""
    return bool(_read("look", "hint", True))


def dismiss_hint() -> None:
    """Show the hint no more, also after the next start."""
    try:
        get_plugin_settings(PLUGIN).look.hint = False
    except KeyError:  # as in _read: nowhere to remember it
        return


def _read(section: str, name: str, default: object) -> object:
    try:
        return getattr(getattr(get_plugin_settings(PLUGIN), section), name)
    except KeyError:  # the widget is used without the plugin being installed
        return default
