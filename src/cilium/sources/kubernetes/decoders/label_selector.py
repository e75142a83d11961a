"""Label selectors that are written as text, as annotations have them: `zone in (a, b),!legacy,tier!=db,rank>3`.

In: the text. Out: terms, all of which must hold; none for an empty text, which selects everything.
"""

from __future__ import annotations

import re

from cilium.tables.services import LabelTerm

_KEY = r"(?:[A-Za-z0-9][-A-Za-z0-9.]*/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_TERM = re.compile(
    rf"""\s*(?:
        (?P<set_key>{_KEY})\s+(?P<set>in|notin)\s*\((?P<values>\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*)\)
      | (?P<key>{_KEY})\s*(?P<operator>==|=|!=)\s*(?P<value>{_VALUE})
      | (?P<ranked>{_KEY})\s*(?P<order>[<>])\s*(?P<number>\d+)
      | (?P<absent>!)?\s*(?P<exists>{_KEY})
    )\s*(?:,(?=\s*\S)|$)""",
    re.VERBOSE,
)


def parse_selector(text: str) -> tuple[LabelTerm, ...]:
    """Raises ValueError with what cannot be read."""
    terms: list[LabelTerm] = []
    position = 0
    while text[position:].strip():
        match = _TERM.match(text, position)
        if match is None:
            raise ValueError(f"cannot read '{text[position:].strip()}'")
        terms.append(_term(match))
        position = match.end()
    return tuple(terms)


def _term(match: re.Match[str]) -> LabelTerm:
    if match["set_key"]:
        return LabelTerm(match["set_key"], match["set"], tuple(value.strip() for value in match["values"].split(",")))
    if match["key"]:
        return LabelTerm(match["key"], "notin" if match["operator"] == "!=" else "in", (match["value"],))
    if match["ranked"]:
        return LabelTerm(match["ranked"], match["order"], (match["number"],))
    return LabelTerm(match["exists"], "absent" if match["absent"] else "exists")
