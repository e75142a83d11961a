"""The generated modules are what the tools make of the headers now, and they are cheap to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cilium.datapath.generated import (
    CONSTANTS,
    EVENT,
    DropReason,
    EndpointFlags,
    Identity,
    IdentityScope,
    ObservationPoint,
)
from cilium.datapath.generated.maps import MAPS
from cilium.tables.identities import SCOPE_CIDR, Reserved

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("tool", ["generate_views.py", "generate_libbpf.py"])
def test_no_drift(tool: str) -> None:
    command = [sys.executable, ROOT / "tools" / tool, "--check"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_contract() -> None:
    assert EVENT.itemsize == 128
    assert EVENT["source_port"] == ">u2"
    assert EndpointFlags.HOST | EndpointFlags.AUDIT == 5
    assert DropReason(133).name == "POLICY_DENIED"
    assert ObservationPoint.TO_ENDPOINT == 0
    assert CONSTANTS["config_native4"] == 16


def test_reserved_identities_are_the_datapaths() -> None:
    kernel = {identity.name: int(identity) for identity in Identity if identity is not Identity.RESERVED_MAX}
    assert {reserved.name: int(reserved) for reserved in Reserved} == kernel
    assert SCOPE_CIDR == IdentityScope.CIDR


def test_every_map_that_has_elements_has_their_types() -> None:
    without = {name for name, spec in MAPS.items() if spec.key is None or spec.value is None}
    assert without == {"cilium_events"}


def test_the_binding_loads_without_a_compiler_and_without_libbpf_at_import() -> None:
    """Importing must not open the library (a node may only want the fake), nor parse C declarations."""
    code = (
        "import sys, cilium.datapath.libbpf.library as library\n"
        "assert not {'pycparser', 'cffi'} & set(sys.modules), 'declarations were parsed at import'\n"
        "assert library.library.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "src")})
