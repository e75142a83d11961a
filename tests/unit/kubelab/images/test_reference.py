"""References as container runtimes read them, and the patterns of the registry."""

from __future__ import annotations

import pytest

from kubelab.images.reference import Reference, matches, parse, valid


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("redis", "docker.io/library/redis", "latest"),
        ("redis:alpine", "docker.io/library/redis", "alpine"),
        ("docker.io/redis", "docker.io/library/redis", "latest"),
        ("index.docker.io/library/redis:7", "docker.io/library/redis", "7"),
        ("hashicorp/http-echo:1.0", "docker.io/hashicorp/http-echo", "1.0"),
        ("quay.io/cilium/starwars:v2.1@sha256:833d", "quay.io/cilium/starwars", "v2.1"),
        ("gcr.io/a/b/c", "gcr.io/a/b/c", "latest"),
        ("localhost/x", "localhost/x", "latest"),
        ("registry:5000/x", "registry:5000/x", "latest"),
        ("registry:5000/x:1", "registry:5000/x", "1"),
    ],
)
def test_references(text: str, repository: str, tag: str) -> None:
    assert parse(text) == Reference(repository, tag)


@pytest.mark.parametrize(
    ("pattern", "image", "match"),
    [
        ("redis", "docker.io/library/redis:7", True),
        ("redis", "bitnami/redis", False),
        ("redis:7*", "redis:7.2", True),
        ("redis:7*", "redis", False),
        ("docker.io/istio/examples-bookinfo-*", "istio/examples-bookinfo-reviews-v1:1.20", True),
        ("docker.io/*/alpine", "x/alpine", True),
        ("docker.io/*/alpine", "docker.io/a/b/alpine", False),
        ("**/alpine-curl", "docker.io/byrnedo/alpine-curl:0.1.8", True),
        ("**/alpine-curl", "quay.io/cilium/alpine-curl@sha256:00", True),
        ("**/alpine-curl", "quay.io/cilium/my-alpine-curl", False),
        ("gcr.io/x.y", "gcr.io/xzy", False),
        ("gcr.io/demo/*", "gcr.io/demo/a:1", True),
        ("**", "anything/at:all", True),
    ],
)
def test_patterns(pattern: str, image: str, match: bool) -> None:
    assert matches(pattern, parse(image)) is match


@pytest.mark.parametrize("pattern", ["", "a b", "redis@sha256:00", "a***", "redis$"])
def test_what_is_no_pattern(pattern: str) -> None:
    assert not valid(pattern)
