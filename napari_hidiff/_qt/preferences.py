"""The plugin's page in napari's Preferences (declared in napari.yaml)."""

from napari.settings import get_plugin_settings

PLUGIN = "napari-hidiff"


def device() -> str:
    """The device that the widget starts with: auto, cpu, cuda or mps."""
    return str(_read("work", "device", "auto"))


def keep_strokes() -> bool:
    """Whether strokes and accepted masks are kept in a sidecar."""
    return bool(_read("work", "keep_strokes", True))


def _read(section: str, name: str, default: object) -> object:
    try:
        return getattr(getattr(get_plugin_settings(PLUGIN), section), name)
    except KeyError:  # the widget is used without the plugin being installed
        return default
