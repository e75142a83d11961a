"""Public manifests, unchanged: applied with kubectl, ready, used as their tutorials use them, deleted again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scenario.cluster import Cluster, CommandError

pytestmark = pytest.mark.scenario
MANIFESTS = Path(__file__).parent / "manifests"
APPLICATIONS = ("guestbook", "bookinfo", "online-boutique", "starwars", "connectivity-check")
PATIENCE = 300
"""Seconds; the shop's own probes begin after 20."""


def space(application: str) -> str:
    return f"public-{application}"


class Applied:
    """The applications, each in a namespace of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def kubectl(self, application: str, *words: object, **options: Any) -> str:
        return self.cluster.kubectl("-n", space(application), *words, **options)

    def apply(self, application: str) -> None:
        self.cluster.kubectl("create", "namespace", space(application))
        self.kubectl(application, "apply", "-f", MANIFESTS / f"{application}.yaml")

    def wait(self, application: str) -> None:
        """Until everything is ready; otherwise it says what stands in the way."""
        wait = ("wait", f"--timeout={PATIENCE}s", "--all")
        try:
            self.kubectl(application, *wait, "deployments", "--for=condition=Available", timeout=PATIENCE + 10)
            self.kubectl(application, *wait, "pods", "--for=condition=Ready", timeout=PATIENCE + 10)
        except CommandError as error:
            shown = self.kubectl(application, "get", "pods,events", "-o", "wide", check=False)
            raise AssertionError(f"{application}: {error}\n{shown}") from error

    def delete(self, application: str) -> None:
        self.kubectl(application, "delete", "-f", MANIFESTS / f"{application}.yaml", timeout=90)
        kinds = "pods,replicasets,deployments,services,serviceaccounts,ciliumnetworkpolicies"

        def gone() -> bool:
            left = self.kubectl(application, "get", kinds, "-o", "name").split()
            return left == ["serviceaccount/default"]

        self.cluster.eventually(gone, f"{application}: nothing but the namespace's own is left", 40)
        self.cluster.kubectl("delete", "namespace", space(application), timeout=90)

    def exec(self, application: str, target: str, *command: object, check: bool = True) -> str:
        return self.kubectl(application, "exec", target, "--", *command, check=check)

    def items(self, application: str, kind: str) -> list[dict[str, Any]]:
        return list(json.loads(self.kubectl(application, "get", kind, "-o", "json"))["items"])


@pytest.fixture(scope="module")
def applied(tunnel: Cluster) -> Iterator[Applied]:
    made = Applied(tunnel)
    with ThreadPoolExecutor() as pool:
        try:
            list(pool.map(made.apply, APPLICATIONS))
            list(pool.map(made.wait, APPLICATIONS))
            yield made
        except BaseException:
            for application in APPLICATIONS:
                tunnel.kubectl("delete", "namespace", space(application), "--ignore-not-found", timeout=90)
            raise
        list(pool.map(made.delete, APPLICATIONS))


def test_starwars_and_its_policy(applied: Applied) -> None:
    def land(ship: str) -> str:
        url = "deathstar.public-starwars.svc.cluster.local/v1/request-landing"
        return applied.exec("starwars", ship, "curl", "-sS", "-m2", "-XPOST", url, check=False)

    assert land("tiefighter") == "Ship landed\n"
    assert land("xwing") == "Ship landed\n"
    policy = MANIFESTS / "starwars-policy.yaml"
    applied.kubectl("starwars", "apply", "-f", policy)
    applied.cluster.eventually(lambda: "timed out" in land("xwing"), "the policy keeps the xwing out")
    assert land("tiefighter") == "Ship landed\n"
    applied.kubectl("starwars", "delete", "-f", policy)
    applied.cluster.eventually(lambda: land("xwing") == "Ship landed\n", "without the policy the xwing lands again")


def test_connectivity_check_probes_behave(applied: Applied) -> None:
    """What the manifest calls success, every probe of every pod, at once and not after their periods."""
    checks = [pod for pod in applied.items("connectivity-check", "pods") if "echo" not in pod["metadata"]["name"]]
    assert len(checks) == 9

    def check(pod: dict[str, Any]) -> tuple[str, str]:
        (container,) = pod["spec"]["containers"]
        name = pod["metadata"]["name"]
        command = container["livenessProbe"]["exec"]["command"]
        try:
            return name, applied.exec("connectivity-check", name, *command)
        except CommandError as error:
            return name, str(error)

    with ThreadPoolExecutor() as pool:
        found = dict(pool.map(check, checks))
    assert {name: text for name, text in found.items() if text and "l3-denied" not in name} == {}
    (denied,) = (text for name, text in found.items() if "l3-denied" in name)
    assert "curl: (28)" in denied, "the name was found, the connection was not made in time"
    assert all(status["restartCount"] == 0 for pod in checks for status in pod["status"]["containerStatuses"])


def test_guestbook_keeps_a_message(applied: Applied) -> None:
    (port,) = (item["spec"]["ports"][0]["nodePort"] for item in applied.items("guestbook", "services")
               if item["metadata"]["name"] == "frontend")  # fmt: skip
    address = applied.cluster.get("node", "node1")["status"]["addresses"][0]["address"]

    def ask(path: str) -> str:
        return applied.cluster.node("external", "curl", "-sS", "-m3", f"http://{address}:{port}{path}")

    assert "Guestbook" in ask("/")
    message = f"hello{time.time_ns()}"
    assert ask(f"/guestbook.php?cmd=set&key=messages&value={message}") == '{"message": "Updated"}'
    read = "/guestbook.php?cmd=get&key=messages"
    applied.cluster.eventually(lambda: message in ask(read), "a follower has what the leader was given")


def test_bookinfo_page_comes_from_all_services(applied: Applied) -> None:
    def page() -> str:
        return applied.exec("bookinfo", "deploy/ratings-v1", "curl", "-sS", "productpage:9080/productpage")

    text = page()
    assert "The Comedy of Errors" in text
    assert "Error fetching" not in text
    assert "1234567890" in text
    for version in ("v1", "v2", "v3"):
        applied.cluster.eventually(lambda wanted=f"reviews-{version}": wanted in page(), f"reviews-{version} answers")


def test_online_boutique_frontend_reaches_every_service(applied: Applied) -> None:
    def ask(path: str, *words: str) -> str:
        return applied.exec("online-boutique", "deploy/redis-cart", "curl", "-sS", *words, f"frontend{path}")

    assert ask("/").count('class="card"') == 9
    assert "You May Also Like" in ask("/product/OLJCESPC7Z"), (
        "the recommendations answered, and the catalog behind them"
    )
    assert "Your order is complete!" in ask("/cart/checkout", "-d", "email=a"), "all six behind the checkout"
    assert "GET / 200" in applied.kubectl("online-boutique", "logs", "deploy/loadgenerator", "-c", "main")
