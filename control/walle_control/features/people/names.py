"""What people may be called."""

from __future__ import annotations

import re

from walle_shared.errors import ConfigError

#: A name or an address such as anna@example.org.
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+\-]{0,127}")
#: Names under which the server itself acts.
_OURS = frozenset({"guard", "system"})
#: The person that ``init`` makes. A provider of identities cannot vouch for somebody of that name.
FIRST_PERSON = "admin"


def check_person(name: str, *, local: bool = True) -> str:
    """Return ``name`` if a person may have it, known here (``local``) or by a provider of identities.

    Raises:
        ConfigError: otherwise; names the rule.
    """
    taken = _OURS if local else _OURS | {FIRST_PERSON}
    if not _PERSON.fullmatch(name) or name in taken:
        raise ConfigError(
            f"{name[:80]!r} cannot be a person's name: letters, digits and . _ @ + -, at most 128,"
            f" and none of {', '.join(sorted(taken))}"
        )
    return name
