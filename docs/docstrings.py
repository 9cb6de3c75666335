"""Docstrings of the house, as the API page shows them.

A griffe extension. Our docstrings explain arguments in lines ``name, other : what it is``, under a
heading of NumPy's or without one; both become Markdown, which would run the lines together.
"""

import re
from typing import Any

from griffe import Docstring, Extension, Object

LINE = re.compile(r"^(\w+(?:, \w+)*) : (.*)")
RULE = re.compile(r"^-{3,}$")
ROLE = re.compile(r":(?:class|meth|func|mod|attr|data):`[~.]?")


def markdown(text: str) -> str:
    """A docstring with headings in bold and explanations of names as lists."""
    found: list[str] = []
    inside = False  # in a list, whose items go on in indented lines
    for line in ROLE.sub("`", text).splitlines():
        item = LINE.match(line)
        if RULE.match(line) and found and found[-1]:
            found[-1:] = ["", f"**{found[-1].strip()}**", ""]
            inside = False
        elif item is not None:
            if not inside and found and found[-1]:
                found.append("")
            names = ", ".join(f"`{name}`" for name in item[1].split(", "))
            found.append(f"- {names}: {item[2]}")
            inside = True
        else:
            if inside and line and not line.startswith(" "):
                found.append("")
                inside = False
            found.append(line)
    return "\n".join(found)


class Markdown(Extension):
    """Rewrite every docstring."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = markdown(obj.docstring.value)
