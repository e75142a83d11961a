"""Reports for CI: JUnit XML.

In: suites of cases. Out: the document's bytes, with counts that add up. What XML cannot carry is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

Kind = Literal["failure", "error", "skipped"]
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTS: dict[Kind, str] = {"failure": "failures", "error": "errors", "skipped": "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Why a case did not pass. `type` is a word for machines."""

    kind: Kind
    type: str = ""
    message: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    seconds: float = 0.0
    remark: Remark | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """`name` is the class name of its cases, too."""

    name: str
    cases: Sequence[Case]
    seconds: float = 0.0
    properties: Mapping[str, str] = field(default_factory=dict)


def document(name: str, suites: Sequence[Suite]) -> bytes:
    root = Element("testsuites", name=name)
    for suite in suites:
        element = SubElement(root, "testsuite", name=suite.name, time=f"{suite.seconds:.3f}")
        _count(element, suite.cases)
        if suite.properties:
            properties = SubElement(element, "properties")
            for key, value in suite.properties.items():
                SubElement(properties, "property", name=_clean(key), value=_clean(value))
        for case in suite.cases:
            _case(element, suite.name, case)
    _count(root, [case for suite in suites for case in suite.cases])
    root.set("time", f"{sum(suite.seconds for suite in suites):.3f}")
    indent(root)
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _count(element: Element, cases: Sequence[Case]) -> None:
    element.set("tests", str(len(cases)))
    for kind, key in _COUNTS.items():
        element.set(key, str(sum(case.remark is not None and case.remark.kind == kind for case in cases)))


def _case(suite: Element, classname: str, case: Case) -> None:
    given = {key: _clean(value) for key, value in case.attributes.items()}
    attributes = {"classname": _clean(classname), "name": _clean(case.name), "time": f"{case.seconds:.3f}", **given}
    element = SubElement(suite, "testcase", attributes)
    if (remark := case.remark) is not None:
        found = SubElement(element, remark.kind, message=_clean(remark.message))
        found.text = _clean(remark.text) or None
        if remark.type:
            found.set("type", remark.type)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", text)
