"""A lab without Cilium, driven by the real kubectl."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from scenario.terminal import Step, on_terminal

from kubelab.lab import Lab
from kubelab.lab.options import LabOptions

PLUGIN = Path(__file__).parents[2] / "kernel" / "kubelab" / "ptp.sh"
CONFLIST = json.dumps({"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": "ptp"}]})
KUBECTL = str(Path(sys.executable).parent / "kubectl")


class SmallLab:
    """A lab by name. Pods of a test go into a namespace of the test's own."""

    def __init__(self, name: str) -> None:
        self.lab = Lab(name)

    def up(self) -> None:
        self.lab.up(LabOptions(nodes=1))
        for number, node in enumerate(self.lab.status().nodes, start=1):
            script = f"""echo {number} > /run/ptp.base; cat > /opt/cni/bin/ptp; chmod +x /opt/cni/bin/ptp
                echo '{CONFLIST}' > /etc/cni/net.d/10-test.conflist"""
            argv = self.lab.node_argv(node.name, ["sh", "-ec", script])
            subprocess.run(argv, input=PLUGIN.read_bytes(), check=True)
        self.lab.wait_ready()

    def down(self) -> None:
        self.lab.down()

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.lab.env()}

    def client(self) -> tuple[str, ssl.SSLContext]:
        """The server's address, and TLS as the administrator."""
        config = yaml.safe_load(Path(self.lab.env()["KUBECONFIG"]).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            for key in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[key]))
            pair.flush()
            context.load_cert_chain(pair.name)
        return cluster["server"], context

    @contextmanager
    def namespace(self, name: str) -> Iterator[Namespace]:
        made = Namespace(self, name)
        made.kubectl("create", "namespace", name)
        try:
            yield made
        finally:
            made.kubectl("delete", "namespace", name, "--wait=false", check=False)


class Namespace:
    """kubectl in one namespace."""

    def __init__(self, small: SmallLab, name: str) -> None:
        self.lab, self.name = small, name

    def kubectl(self, *words: str, stdin: bytes = b"", check: bool = True, program: str = KUBECTL) -> str:
        done = self.run(*words, stdin=stdin, program=program)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert done.returncode == 0 or not check, f"kubectl {words}: exit {done.returncode}\n{out}{err}"
        return out if check else out + err

    def run(self, *words: str, stdin: bytes = b"", program: str = KUBECTL) -> subprocess.CompletedProcess[bytes]:
        argv = [program, "-n", self.name, *words]
        return subprocess.run(argv, env=self.lab.environment, input=stdin, capture_output=True, timeout=60, check=False)

    def start(self, *words: str, program: str = KUBECTL) -> subprocess.Popen[str]:
        argv = [program, "-n", self.name, *words]
        return subprocess.Popen(
            argv, env=self.lab.environment, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def pod(self, name: str, script: str, *, ready: bool = True, container: dict[str, Any] | None = None,
            **spec: Any) -> None:  # fmt: skip
        """A pod of one container ``c`` that runs a shell script."""
        main = {"name": "c", "image": "test", "command": ["sh", "-c", script], **(container or {})}
        spec.setdefault("terminationGracePeriodSeconds", 1)
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                    "spec": {"containers": [main], **spec}})  # fmt: skip
        if ready:
            self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=20s")

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)).encode())

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def status(self, pod: str) -> dict[str, Any]:
        return dict(self.get("pod", pod)["status"])

    def events(self, pod: str) -> list[tuple[str, str]]:
        found = self.get("events", "--field-selector", f"involvedObject.name={pod}")["items"]
        return [(event["reason"], event["message"]) for event in found]

    def until(self, condition: Callable[[], Any], what: str, timeout: float = 20) -> Any:
        """Asks until the answer is true."""
        deadline = time.monotonic() + timeout
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
            time.sleep(0.1)
        return answer

    def on_terminal(
        self, *words: str, script: Sequence[Step], program: str = KUBECTL, timeout: float = 20
    ) -> tuple[str, int]:
        """kubectl on a terminal of 31 x 97: waits for what is seen, types what follows. (screen, exit code)"""
        return on_terminal([program, "-n", self.name, *words], self.lab.environment, script, timeout)


def old_kubectl(directory: Path) -> str | None:
    """Debian's kubectl 1.20, which streams over SPDY; None where apt does not have it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    apt = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "kubernetes-client"]
    if subprocess.run(apt, cwd=directory, capture_output=True, check=False).returncode:
        return None
    package = next(directory.glob("kubernetes-client*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, directory], check=True)
    return str(directory / "usr" / "bin" / "kubectl")
