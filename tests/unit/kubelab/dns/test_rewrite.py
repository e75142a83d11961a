"""`rewrite`: questions in other words."""

import re

import pytest
from unit.kubelab.dns.asking import ask, configured, outcome, texts

from kubelab.dns.corefile import CorefileError

HOSTS = "hosts {\n 10.0.0.1 web.shop.test\n 10.0.0.2 api.shop.test\n 10.0.0.3 web.other.test\n }"


PLAIN, AUTO = "rewrite name suffix .example.com .shop.test", "answer auto"
PATTERN = r"rewrite {\n name regex (.*)-(.*)\.test\.$ {1}.{2}.test\n answer name (.*)\.(.*)\.test\.$ {1}-{2}.test\n }"
CHAIN = "rewrite continue name a.test b.test\n rewrite name b.test web.shop.test\n rewrite name web.shop.test x.test"


@pytest.mark.parametrize(
    ("rules", "asked", "answers"),
    [
        ("rewrite name www.test web.shop.test", "WWW.test", [("WWW.test.", "10.0.0.1")]),
        ("rewrite stop name exact www.test web.shop.test", "www.test", [("www.test.", "10.0.0.1")]),
        (PLAIN, "api.example.com", [("api.shop.test.", "10.0.0.2")]),
        (f"{PLAIN} {AUTO}", "api.example.com", [("api.example.com.", "10.0.0.2")]),
        (f"rewrite name prefix old-web web {AUTO}", "old-web.shop.test", [("old-web.shop.test.", "10.0.0.1")]),
        ("rewrite name substring .mall. .shop.", "web.mall.test", [("web.shop.test.", "10.0.0.1")]),
        (PATTERN.replace(r"\n", "\n"), "web-other.test", [("web-other.test.", "10.0.0.3")]),
        (CHAIN, "a.test", [("a.test.", "10.0.0.1")]),
        ("rewrite name a.test b.test", "web.shop.test", [("web.shop.test.", "10.0.0.1")]),
    ],
)
async def test_names(rules: str, asked: str, answers: list[tuple[str, str]]) -> None:
    server = configured(f". {{\n {rules}\n {HOSTS}\n}}")
    found = await ask(server, asked)
    assert [(str(record.name), str(data)) for record in found.answer for data in record] == answers
    assert found.question[0].name.to_text() == f"{asked}.", "the question is the asker's"


async def test_types() -> None:
    server = configured(f". {{\n rewrite type AAAA A\n {HOSTS}\n}}")
    assert texts(await ask(server, "web.shop.test", "AAAA")) == ["10.0.0.1"]
    assert outcome(await ask(server, "web.shop.test", "TXT")) == "NODATA"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("ttl a.test 5", "others are not done here"),
        ("name a.test", "what to match and what to put in its place"),
        ("name a.test b.test answer never", "only `answer auto`"),
        ("name regex ( b.test", "invalid regex"),
        ("type NOSUCH A", "'NOSUCH' is not known"),
    ],
)
async def test_what_is_not_done_is_refused(rule: str, problem: str) -> None:
    with pytest.raises(CorefileError, match=re.escape(problem)):
        configured(f". {{\n rewrite {rule}\n}}")
