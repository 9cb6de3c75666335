"""Units of length by any name that files and napari's layers give them."""

from functools import cache
from typing import Any


def millimetres(unit: Any) -> float | None:
    """How many mm a unit of length is; None for what is no length (pixel, second, nothing).

    unit : a name or symbol (``mm``, ``micron``, ``µm``, ImageJ's ``\\\\u00B5m``) or a pint unit.
    """
    return _factor(str(unit).strip().replace("\\u00B5", "µ"))


@cache
def _factor(name: str) -> float | None:
    if not name.isalpha() or name.lower() == "px":  # pint reads formulas, and CSS's pixels
        return None
    import pint

    registry = pint.get_application_registry()
    for word in (name, name.lower()):
        try:
            return float(registry.Quantity(1, word).to("mm").magnitude)
        except (pint.PintError, AttributeError):
            continue
    return None
