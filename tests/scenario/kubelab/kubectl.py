"""The real kubectl against an API server: how tests call it, and what they apply."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

KUBECTL = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
Kubectl = Callable[..., Awaitable[str]]

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: nginx, env: [{name: A, value: "1"}, {name: B, value: "2"}], ports: [{containerPort: 80}]}
      - {name: side, image: busybox}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80}]
"""

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.demo.io}
spec:
  group: demo.io
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties: {size: {type: integer, maximum: 10, description: How large it is.}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


class KubectlError(AssertionError):
    """kubectl failed; the text is what it printed."""


def runner(directory: Path) -> Kubectl:
    environment = {**os.environ, "KUBECONFIG": str(directory / "config"), "HOME": str(directory)}

    async def run(*arguments: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            str(KUBECTL),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            async with asyncio.timeout(30):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {process.returncode}: {(out + err).decode()}")
        return out.decode()

    return run


def token_config(directory: Path, token: str) -> str:
    """A kubeconfig that shows a token and no certificate."""
    content = yaml.safe_load((directory / "config").read_text())
    content["users"][0]["user"] = {"token": token}
    path = directory / "token-config"
    path.write_text(yaml.safe_dump(content))
    return str(path)


async def get_json(kubectl: Kubectl, *arguments: str) -> Any:
    return json.loads(await kubectl("get", *arguments, "-o", "json"))
