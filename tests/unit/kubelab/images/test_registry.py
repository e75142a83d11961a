"""The registry: the shipped file is sound, a user's wins, and a bad one is refused with file, entry, field, way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubelab.images import registry
from kubelab.images.registry import RegistryError, load

GOOD = """
images:
  - images: [redis:7*]
    about: an echo in the place of Redis
    standin: server
    ports: [6379/tcp]
"""


def test_shipped_registry_is_sound() -> None:
    found = load()
    for entry in found.entries:
        assert entry.about
        for pattern in entry.images:
            assert "@" not in pattern


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("registry.k8s.io/pause:3.10", "pause"),
        ("quay.io/cilium/json-mock:v1.3.8@sha256:5aad", "json-mock"),
        ("docker.io/cilium/json-mock:1.0", "json-mock"),
        ("quay.io/cilium/starwars:v2.1", "starwars"),
        ("registry.k8s.io/e2e-test-images/agnhost:2.53", "agnhost"),
        ("hashicorp/http-echo", "hello http-echo"),
        ("traefik/whoami:v1.10", "hello whoami"),
        ("gcr.io/google-samples/gb-frontend:v4", "guestbook"),
        ("docker.io/istio/examples-bookinfo-reviews-v3:1.20.1", "bookinfo"),
        ("us-central1-docker.pkg.dev/google-samples/microservices-demo/adservice:v0.10.3", "boutique"),
        ("postgres:16-alpine", "postgres"),
        ("httpd", "static"),
    ],
)
def test_shipped_standins(image: str, program: str) -> None:
    entry = load().find(image)
    assert entry is not None
    assert entry.standin == program


@pytest.mark.parametrize("image", ["example/web", "my/registry.k8s.io/other", "rediss"])
def test_unknown_images(image: str) -> None:
    assert load().find(image) is None


def test_a_users_entry_wins(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(GOOD)
    found = load(file)
    assert (entry := found.find("redis:7.2")) is not None
    assert entry.standin == "server"
    assert (entry := found.find("redis:6")) is not None
    assert entry.needs is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("images: [", "no YAML: line"),
        ("[]", 'one key, "images:"'),
        ("images: []\nmore: 1", 'one key, "images:"'),
        ("images: [7]", "images[0]: Expected `object`, got `int`"),
        ("images:\n- images: [redis]\n  about: x\n  cmd: sh", "images[0] (redis): cmd: Expected `array`, got `str`"),
        (
            "images:\n- images: [redis]\n  about: x\n  comand: [sh]",
            "unknown field `comand`: an entry has images, about",
        ),
        ("images:\n- images: [redis]\n  cmd: [sh]", "images[0] (redis): Object missing required field `about`"),
        ("images:\n- images: [a]\n  about: x", "standin, entrypoint, cmd: give one"),
        ("images:\n- images: [a]\n  about: x\n  standin: server\n  entrypoint: [sh]", "standin, entrypoint: give one"),
        (
            "images:\n- images: [a]\n  about: x\n  standin: nope",
            "standin: 'nope': no such stand-in; there are agnhost,",
        ),
        ("images:\n- images: []\n  about: x\n  cmd: [sh]", "images: name at least one"),
        ("images:\n- images: ['a@sha256:0']\n  about: x\n  cmd: [sh]", "write REGISTRY/REPOSITORY[:TAG]"),
        ("images:\n- images: [a]\n  about: x\n  cmd: [sh]\n  ports: ['80']", "ports: '80': write PORT/tcp or PORT/udp"),
        ("images:\n- images: [a]\n  about: x\n  cmd: [sh]\n  ports: [99999/tcp]", "write PORT/tcp"),
        ("images:\n- images: [a]\n  about: x\n  cmd: [sh]\n  workingDir: x", "workingDir: 'x': write an absolute path"),
        ("images:\n- images: [a]\n  about: x\n  cmd: [sh]\n  user: 'a b'", "user: 'a b': write USER"),
        ("images:\n- images: [a]\n  about: x\n  cmd: [sh]\n  env: {PATH: /x}", "env: PATH"),
        (
            "images:\n- images: [a]\n  about: x\n  cmd: [sh]\n"
            "  needs: {program: x, package: y, otherwise: {standin: z}}",
            "needs.otherwise.standin: 'z'",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(text)
    with pytest.raises(RegistryError) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"images\.yaml: No such file or directory: give a file"):
        registry.read(tmp_path / "images.yaml")
