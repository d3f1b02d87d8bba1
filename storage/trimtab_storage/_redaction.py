"""What may be told of an error that the client of an object store raised.

Such errors name the address that was asked, and that may carry a user and a password: of the store,
or of a proxy on the way. Rather too much is left out than too little.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|SIGNATURE|SAS|CONNECTION", re.I)
_SHORTEST_SECRET, _SHORTEST_USER = 6, 4
"""What is shorter occurs in any text, and to leave it out would tell what it is."""
_LONGEST, _LONGEST_READ = 300, 4000

# A URL may stand in JSON or in another URL, where its marks are escaped.
_MARK = r"(?::|%(?:25)*3a)(?:\\?/|%(?:25)*2f){2}"
_AT = r"(?:@|%(?:25)*40)"
# Up to the last @ of the line, as a password may hold any character, spaces and other @ too.
_USER = re.compile(rf"({_MARK}).*{_AT}", re.I)
# Without an @, because the text was cut there; what is no number is no port.
_PORT = r"\d{1,5}(?![\w%~!$&*+-]|\.\S)"
_CUT_USER = re.compile(rf"({_MARK})[^/\s@:\[]*:(?!{_PORT})\S+", re.I)
# As proxies are often given.
_BARE_USER = re.compile(rf"(?<![^\s:@/])[^\s:@/]+:(?!\\?/)[^\s@]+{_AT}", re.I)
_QUERY = re.compile(r"\?\S*")
_IN_VALUE = re.compile(r"(?:.*?://)?([^/].*)@", re.S)


def told(error: Exception) -> str:
    """Gives what an error says, in one line, without what might be a credential."""
    text = _without(str(error), set(_secrets(os.environ)))
    line = next(iter(text.strip().splitlines()), "")[:_LONGEST_READ]
    line = _USER.sub(r"\1…@", line)
    line = _CUT_USER.sub(r"\1…", line)
    line = _QUERY.sub("?…", _BARE_USER.sub("…@", line))
    kind = type(error).__name__
    return f"{kind}: {line[:_LONGEST]}" if line else kind


def _without(text: str, secrets: set[str]) -> str:
    # The longest first: one may be a part of another, whose rest would stay.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAME.search(name):
            yield value
        if "://" in value or name.lower().endswith("_proxy"):
            yield from _users(value)


def _users(url: str) -> Iterator[str]:
    """Gives user and password of a URL as they may be told, and the password alone."""
    found = _IN_VALUE.match(url)
    if found is None:
        return
    user = found[1]
    for each in (user, user.partition(":")[2]):
        for form in (each, unquote(each)):
            if len(form) >= _SHORTEST_USER:
                yield form
