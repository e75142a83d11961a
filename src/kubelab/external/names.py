"""The names of the world outside, without anything that serves them."""

from __future__ import annotations

from kubelab.underlay.addresses import PUBLIC, WORLD, Family

ORIGIN = "world.test"
SITES = ("web", "api", "ns")
"""Names of the world's addresses, in their order; the last one is the name server."""
PUBLIC_ZONES = ("example.com", "google.com", "github.com", "cilium.io", "kubernetes.io")
"""Domains of the real world that public manifests and tutorials ask: all their names are the first web server."""
PUBLIC_SITE = "one.one.one.one"
"""The name of the real world's addresses that are here."""


def certified() -> list[str]:
    """Names and addresses for the certificate of the world's web servers."""
    families: tuple[Family, ...] = (4, 6)
    own = [f"*.{ORIGIN}", PUBLIC_SITE, *(name for zone in PUBLIC_ZONES for name in (zone, f"*.{zone}"))]
    return [*own, *(address for family in families for address in (*WORLD[family][:2], *PUBLIC[family]))]
