r"""What names, labels and keys may look like.

Owns: the patterns and the words in which they are explained; clients compare these words. Comes in: a text. Goes out:
one explanation per fault. Source: RFC 1123, RFC 1035; Kubernetes documentation "Object Names and IDs", "Labels and
Selectors".
"""

import re
from collections.abc import Iterator

_LABEL_TEXT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035_TEXT = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_TEXT = rf"{_LABEL_TEXT}(\.{_LABEL_TEXT})*"
_QUALIFIED_TEXT = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_TEXT = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_ENV_TEXT = "[ -<>-~]+"
_KEY_TEXT = "[-._a-zA-Z0-9]+"


def _explained(what: str, pattern: str, *examples: str) -> str:
    shown = ",  or ".join(f"'{e}'" for e in examples)
    return f"{what} (e.g. {shown}, regex used for validation is '{pattern}')"


_SUBDOMAIN_FAULT = _explained(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character",
    _SUBDOMAIN_TEXT,
    "example.com",
)
_LABEL_FAULT = _explained(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character",
    _LABEL_TEXT,
    "my-name",
    "123-abc",
)
_LABEL_1035_FAULT = _explained(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _LABEL_1035_TEXT,
    "my-name",
    "abc-123",
)
_QUALIFIED_FAULT = _explained(
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character",
    _QUALIFIED_TEXT,
    "MyName",
    "my.name",
    "123-abc",
)
_VALUE_FAULT = _explained(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character",
    _VALUE_TEXT,
    "MyValue",
    "my_value",
    "12345",
)
_KEY_FAULT = _explained(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _KEY_TEXT,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_LABEL, _LABEL_1035 = re.compile(_LABEL_TEXT), re.compile(_LABEL_1035_TEXT)
_SUBDOMAIN, _QUALIFIED = re.compile(_SUBDOMAIN_TEXT), re.compile(_QUALIFIED_TEXT)
_VALUE, _ENV, _KEY = re.compile(_VALUE_TEXT), re.compile(_ENV_TEXT), re.compile(_KEY_TEXT)


def _check(text: str, pattern: re.Pattern[str], fault: str, longest: int) -> Iterator[str]:
    if len(text) > longest:
        yield f"must be no more than {longest} bytes"
    if not pattern.fullmatch(text):
        yield fault


def label(text: str) -> Iterator[str]:
    """RFC 1123 label: containers, volumes, namespaces."""
    return _check(text, _LABEL, _LABEL_FAULT, 63)


def label_1035(text: str) -> Iterator[str]:
    """RFC 1035 label: Services."""
    return _check(text, _LABEL_1035, _LABEL_1035_FAULT, 63)


def subdomain(text: str) -> Iterator[str]:
    """RFC 1123 subdomain: most objects."""
    return _check(text, _SUBDOMAIN, _SUBDOMAIN_FAULT, 253)


def path_segment(text: str) -> Iterator[str]:
    """What may stand in a URL: roles and their bindings."""
    if text in (".", ".."):
        yield f"may not be '{text}'"
    for char in "/%":
        if char in text:
            yield f"may not contain '{char}'"


def qualified(text: str) -> Iterator[str]:
    """Keys of labels, annotations, taints: `[prefix/]name`."""
    prefix, slash, name = text.rpartition("/")
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif slash:
        yield from (f"prefix part {fault}" for fault in subdomain(prefix))
    if not name:
        yield "name part must be non-empty"
        return
    if len(name) > 63:
        yield "name part must be no more than 63 bytes"
    if not _QUALIFIED.fullmatch(name):
        yield _QUALIFIED_FAULT


def label_value(text: str) -> Iterator[str]:
    return _check(text, _VALUE, _VALUE_FAULT, 63)


def config_key(text: str) -> Iterator[str]:
    """Keys of ConfigMaps and Secrets, which may become file names."""
    yield from _check(text, _KEY, _KEY_FAULT, 253)
    if text in (".", ".."):
        yield f"must not be '{text}'"
    elif text.startswith(".."):
        yield "must not start with '..'"


def variable(text: str) -> Iterator[str]:
    """Environment variables: printable, without '='."""
    if not _ENV.fullmatch(text):
        yield (
            "a valid environment variable name must consist only of printable ASCII characters other than '=' "
            f"(e.g. 'my.env-name', or 'MY_ENV.NAME', or 'MyEnvName1', regex used for validation is '{_ENV_TEXT}')"
        )


def port_name(text: str) -> Iterator[str]:
    """IANA service names (RFC 6335)."""
    if len(text) > 15:
        yield "must be no more than 15 characters"
    if not re.fullmatch("[-a-z0-9]+", text):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
        return
    if not re.search("[a-z]", text):
        yield "must contain at least one letter (a-z)"
    if "--" in text:
        yield "must not contain consecutive hyphens"
    if text[0] == "-" or text[-1] == "-":
        yield "must not begin or end with a hyphen"
