"""For mkdocs: the cross-references of docstrings are Sphinx's, whose roles would show."""

import re
from typing import Any

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|const):(?=\s*<code>)\s*")


def on_page_content(html: str, **_: Any) -> str:
    """Drops ``:func:`` and its like before a name."""
    return _ROLE.sub("", html)
