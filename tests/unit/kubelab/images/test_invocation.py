"""What containers execute: `command` and `args` against the image's entrypoint and cmd, and what is told about it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kubelab.images.invocation import Invocation, ProgramMissingError, resolve
from kubelab.images.programs import standin_argv
from kubelab.images.registry import Entry, Needs, Otherwise, Registry, load

TOOL = Entry(images=["tool"], about="a tool", entrypoint=["tool", "-x"], cmd=["--help"], env={"A": "1"},
             working_dir="/data", user="7", ports=["9/tcp"])  # fmt: skip
MOCK = Entry(images=["mock"], about="a mock", standin="hello whoami", cmd=["--port", "80"], ports=["80/tcp"])
ECHO = Entry(images=["echo"], about="an echo", standin="server", cmd=["x"], ports=["80/tcp"])
SHELL = Entry(images=["shell"], about="a shell", cmd=["sh"])
LACKING = Entry(images=["db"], about="a database", entrypoint=["db"], needs=Needs("no-such-db", "db-server"))
REPLACED = Entry(images=["web"], about="a server", entrypoint=["web"], ports=["80/tcp"],
                 needs=Needs("no-such-web", "web-light", Otherwise("static", ["/pages"])))  # fmt: skip
REGISTRY = Registry((TOOL, MOCK, ECHO, SHELL, LACKING, REPLACED))


def made(image: str, command: Sequence[str] = (), args: Sequence[str] = (), ports: Sequence[str] = ()) -> Invocation:
    return resolve(REGISTRY, image, command, args, ports, lambda word: word in ("sh", "sleep", "curl"))


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [
        ([], [], ["tool", "-x", "--help"]),
        ([], ["-v"], ["tool", "-x", "-v"]),
        (["other"], [], ["other"]),
        (["other"], ["-v"], ["other", "-v"]),
    ],
)
def test_command_and_args(command: list[str], args: list[str], argv: list[str]) -> None:
    assert made("tool:3", command, args).argv == argv


def test_what_else_the_image_says() -> None:
    found = made("tool")
    assert (found.environment, found.working_dir, found.user) == ({"A": "1"}, "/data", "7")
    assert (found.ports, found.notice, found.stands_in) == (("9/tcp",), "", False)
    assert made("tool", ports=["1/udp"]).ports == ("1/udp",)


def test_standins_take_arguments_and_the_generic_one_ports() -> None:
    assert made("mock").argv == standin_argv("hello", ["whoami", "--port", "80"])
    assert made("mock", args=["--name", "a"]).argv == standin_argv("hello", ["whoami", "--name", "a"])
    assert made("echo").argv == standin_argv("server", ["80/tcp"])
    assert made("echo", args=["ignored"], ports=["1/tcp", "2/udp"]).argv == standin_argv("server", ["1/tcp", "2/udp"])
    assert made("mock").stands_in


def test_a_command_that_may_not_exist() -> None:
    assert made("mock", ["/app"], ["-a"]).fallback == standin_argv("hello", ["whoami", "-a"])
    assert made("shell", ["/app"]).fallback is None
    found = made("tool", ["/app"], ports=["80/tcp"])
    assert found.fallback == standin_argv("server", ["80/tcp"])
    assert "/app is not on this machine" in found.fallback_notice


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(
        ProgramMissingError, match=r'image "db:1": a database needs no-such-db, .* apt-get install db-server'
    ):
        made("db:1")
    assert made("db", ["sh"]).argv == ["sh"], "a command of the pod needs nothing of the image"


def test_a_missing_program_with_a_replacement() -> None:
    found = made("web", args=["-x"])
    assert found.argv == standin_argv("static", ["/pages"])
    assert "no-such-web is not on this machine (apt-get install web-light)" in found.notice


def test_shipped_entries_on_a_machine_that_lacks_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubelab.images.invocation.find", lambda program: None)
    shipped = load()

    def start(image: str) -> Invocation:
        return resolve(shipped, image, [], [], [], lambda word: False)

    assert start("nginx:1.27").argv == standin_argv("static", ["/usr/share/nginx/html", "Welcome to nginx!"])
    assert "apt-get install nginx-light" in start("nginx").notice
    for image, package in (("redis:7", "redis-tools"), ("postgres", "postgresql"), ("networkstatic/iperf3", "iperf3")):
        with pytest.raises(ProgramMissingError, match=f"apt-get install {package}"):
            start(image)


def test_unknown_images_get_the_generic_standin_and_say_so() -> None:
    found = made("example/app", ports=["80/tcp"])
    assert found.argv == standin_argv("server", ["80/tcp"])
    assert 'Image "example/app" is not in the registry' in found.notice
    assert "80/tcp" in found.notice
    assert "--images FILE" in found.notice


@pytest.mark.parametrize(
    ("image", "command", "args", "ports", "argv", "falls_back"),
    [
        ("x", ["app"], ["-a"], [], ["app", "-a"], False),
        ("x", ["app"], [], ["80/tcp"], ["app"], True),
        ("x", [], ["sleep", "1"], [], ["sleep", "1"], True),
        ("quay.io/y/curl:8@sha256:00", [], ["-s", "a"], [], ["curl", "-s", "a"], True),
        ("x", [], ["--serve"], [], standin_argv("server"), False),
    ],
)
def test_unknown_images(
    image: str, command: list[str], args: list[str], ports: list[str], argv: list[str], falls_back: bool
) -> None:
    found = made(image, command, args, ports)
    assert found.argv == argv
    assert (found.fallback is not None) is falls_back
