"""The groups of settings about processes: Hubble, health, metrics, API access, operator, installation.

In: nothing. Out: the types that composition roots receive, with defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from cilium.settings import kinds
from cilium.settings.schema import setting

ABSOLUTE = kinds.text(r"/.*", "an absolute path", empty_is_default=True)
OPTIONAL_PATH = kinds.text(r"(/.*)?", "an absolute path or nothing")


@dataclass(frozen=True)
class HubbleSettings:
    enabled: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-hubble",
        helm=("hubble.enabled",),
        meaning="The agent keeps recent flows and serves them.",
    )
    listen: str = setting(
        kinds.listen_address(),
        default="",
        key="hubble-listen-address",
        helm=("hubble.listenAddress",),
        when={"enable-hubble": "true"},
        meaning="TCP address of the flow service, e.g. `:4244`; empty serves the unix socket only. There is no TLS "
        "yet: whoever reaches the port can read the flows of the node.",
    )
    socket: str = setting(
        ABSOLUTE,
        default="/var/run/cilium/hubble.sock",
        key="hubble-socket-path",
        helm=("hubble.socketPath",),
        meaning="Unix socket of the flow service.",
    )
    capacity: int = setting(
        kinds.integer(1, 65535),
        default=65535,
        key="hubble-event-buffer-capacity",
        helm=("hubble.eventBufferCapacity",),
        unit="flows",
        when={"enable-hubble": "true"},
        meaning="Recent flows kept, 2^n - 1.",
    )


@dataclass(frozen=True)
class HealthSettings:
    port: int = setting(
        kinds.integer(1, 65535),
        default=9879,
        key="agent-health-port",
        helm=("healthPort",),
        meaning="Port on the loopback addresses where probes ask the agent.",
    )
    checking: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-health-checking",
        helm=("healthChecking",),
        meaning="Agents ask each other's nodes whether they answer, and answer themselves.",
    )
    endpoint: bool = setting(
        kinds.boolean(),
        default=True,
        key="enable-endpoint-health-checking",
        helm=("endpointHealthChecking.enabled",),
        meaning="Every node has a health endpoint behind its datapath, with addresses of its pod CIDRs, that is asked "
        "too; nothing without `healthChecking`.",
    )
    cluster_port: int = setting(
        kinds.integer(1, 65535),
        default=4240,
        key="cluster-health-port",
        meaning="TCP port of health checks, on the nodes and in their health endpoints; the same on every node.",
    )


@dataclass(frozen=True)
class MetricsSettings:
    listen: str = setting(
        kinds.listen_address(),
        default="",
        key="prometheus-serve-addr",
        helm=("prometheus.serveAddr",),
        meaning="Address of the agent's Prometheus metrics; `prometheus.enabled` with `prometheus.port` "
        "(9962) writes it.",
    )
    chosen: tuple[str, ...] = setting(
        kinds.names(r"[+-][a-z0-9_]+", "names of metrics, each after + or -"),
        default=(),
        key="metrics",
        helm=("prometheus.metrics",),
        meaning="Metrics to serve beside those that are on by default (`+name`), and not to serve (`-name`).",
    )


@dataclass(frozen=True)
class LogSettings:
    debug: bool = setting(
        kinds.boolean(), default=False, key="debug", helm=("debug.enabled",), meaning="Logs every step."
    )
    format: str = setting(
        kinds.text("text|json", "text or json", empty_is_default=True),
        default="text",
        key="log-format",
        helm=("logFormat",),
        meaning="How a log line is written: `text` for people, `json` for machines.",
    )


@dataclass(frozen=True)
class ProcessSettings:
    node_name: str = setting(
        kinds.text(r"[a-z0-9.-]*", "a node's name"),
        default="",
        key="node-name",
        environment="K8S_NODE_NAME",
        per_process=True,
        meaning="Name of the Kubernetes node; empty takes the host's name.",
    )
    namespace: str = setting(
        kinds.text(r"[a-z0-9-]+", "a namespace", empty_is_default=True),
        default="kube-system",
        key="k8s-namespace",
        per_process=True,
        meaning="Namespace in which the components run.",
    )
    state_dir: str = setting(
        ABSOLUTE,
        default="/var/run/cilium",
        key="state-dir",
        helm=("daemon.runPath",),
        meaning="Sockets and the state that outlives the agent.",
    )
    netns_dir: str = setting(
        ABSOLUTE,
        default="/var/run/netns",
        key="netns-dir",
        helm=("daemon.netnsPath",),
        meaning="Where the container runtime keeps network namespaces.",
    )

    @property
    def api_socket(self) -> str:
        """Unix socket of the agent's REST API."""
        return f"{self.state_dir}/cilium.sock"

    @property
    def cni_socket(self) -> str:
        """Unix socket on which the agent serves the plugin."""
        return f"{self.state_dir}/cni.sock"


@dataclass(frozen=True)
class KubernetesSettings:
    server: str = setting(
        kinds.text(r"(https?://\S+)?", "https://host:port or nothing"),
        default="",
        key="k8s-api-server",
        helm=("k8s.apiServerURLs",),
        meaning="URL of the API server, for nodes that cannot reach its Service yet; `k8sServiceHost` and "
        "`k8sServicePort` write it. Empty: KUBERNETES_SERVICE_HOST and _PORT.",
    )
    kubeconfig: str = setting(
        OPTIONAL_PATH,
        default="",
        key="k8s-kubeconfig-path",
        environment="KUBECONFIG",
        per_process=True,
        meaning="Kubeconfig file; empty takes the pod's service account.",
    )


@dataclass(frozen=True)
class CniSettings:
    configuration: str = setting(
        OPTIONAL_PATH,
        default="/etc/cni/net.d/05-cilium.conflist",
        key="write-cni-conf-when-ready",
        helm=("cni.hostConfFile",),
        meaning="CNI configuration the agent writes when it is ready; empty writes none.",
    )
    binary_dir: str = setting(
        ABSOLUTE,
        default="/opt/cni/bin",
        key="cni-bin-dir",
        helm=("cni.binPath",),
        meaning="Where the agent installs the plugin.",
    )
    exclusive: bool = setting(
        kinds.boolean(),
        default=True,
        key="cni-exclusive",
        helm=("cni.exclusive",),
        meaning="Other CNI configurations of the node are set aside.",
    )


@dataclass(frozen=True)
class OperatorSettings:
    listen: str = setting(
        kinds.listen_address(),
        default="127.0.0.1:9234",
        key="operator-api-serve-addr",
        helm=("operator.apiServeAddr",),
        meaning="Address where probes ask the operator.",
    )
    metrics: str = setting(
        kinds.listen_address(),
        default="",
        key="operator-prometheus-serve-addr",
        helm=("operator.prometheus.serveAddr",),
        meaning="Address of the operator's Prometheus metrics; `operator.prometheus.enabled` with "
        "`operator.prometheus.port` (9963) writes it.",
    )
    identity_gc: float = setting(
        kinds.duration(1),
        default=900.0,
        key="identity-gc-interval",
        helm=("operator.identityGCInterval",),
        unit="s",
        meaning="Time between two searches for unused identities.",
    )
    identity_timeout: float = setting(
        kinds.duration(1),
        default=1800.0,
        key="identity-heartbeat-timeout",
        helm=("operator.identityHeartbeatTimeout",),
        unit="s",
        meaning="An identity that nobody used for this long is removed.",
    )
    endpoint_gc: float = setting(
        kinds.duration(),
        default=300.0,
        key="cilium-endpoint-gc-interval",
        helm=("operator.endpointGCInterval",),
        unit="s",
        meaning="Time between two searches for CiliumEndpoints without a pod; 0 switches it off.",
    )
    lease_duration: float = setting(
        kinds.duration(1),
        default=15.0,
        key="leader-election-lease-duration",
        helm=("operator.leaderElection.leaseDuration",),
        unit="s",
        meaning="A leader that was not heard for this long is replaced.",
    )
    renew_deadline: float = setting(
        kinds.duration(1),
        default=10.0,
        key="leader-election-renew-deadline",
        helm=("operator.leaderElection.renewDeadline",),
        unit="s",
        meaning="A leader that cannot renew for this long steps down.",
    )
    retry_period: float = setting(
        kinds.duration(0.1),
        default=2.0,
        key="leader-election-retry-period",
        helm=("operator.leaderElection.retryPeriod",),
        unit="s",
        meaning="Time between two attempts to become or stay the leader.",
    )


@dataclass(frozen=True)
class InstallSettings:
    """What only the manifests use."""

    image: str = setting(
        kinds.text(r"\S+", "an image name", empty_is_default=True),
        default="cilium",
        helm=("image.repository",),
        meaning="Image of all components.",
    )
    tag: str = setting(
        kinds.text(r"[\w.-]*", "an image tag"), default="", helm=("image.tag",), meaning="Tag of the image."
    )
    pull_policy: str = setting(
        kinds.text("Always|IfNotPresent|Never", "Always, IfNotPresent or Never", empty_is_default=True),
        default="IfNotPresent",
        helm=("image.pullPolicy",),
        meaning="When nodes fetch the image.",
    )
    operator_replicas: int = setting(
        kinds.integer(1, 9), default=1, helm=("operator.replicas",), meaning="Operators, of which one is active."
    )
    max_unavailable: int = setting(
        kinds.integer(1, 5000),
        default=2,
        helm=("updateStrategy.rollingUpdate.maxUnavailable",),
        meaning="Agents that a rolling update may replace at the same time.",
    )
