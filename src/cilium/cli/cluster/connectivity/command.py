"""`cilium connectivity test`: the options, the exit status.

0: all tests passed or were skipped. 1: a test failed, or the suite could not be run. 2: wrong options.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cilium.cli.cluster.policy.commands import kubeconfig_path

if TYPE_CHECKING:
    from cilium.connectivity.suite.events import TestResult
    from cilium.connectivity.suite.options import Options


class Duration(click.ParamType[float]):
    """Seconds, written as in Go."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from cilium.settings.kinds import duration

        try:
            return value if isinstance(value, float) else duration().parse(value)
        except ValueError:
            self.fail(f"{value!r} is no duration: write 2s, 500ms or 1m30s", param, ctx)


@click.group()
def connectivity() -> None:
    """Whether a cluster connects what it should, and keeps apart what it should."""


@connectivity.command()
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="REGEX",
    help="Run tests that match, with ! in front leave them out; /SCENARIO finds scenarios. May be repeated.",
)
@click.option("--test-namespace", default="cilium-test-1", show_default=True, help="Where the test's pods are.")
@click.option("-n", "--namespace", default="kube-system", show_default=True, help="Where Cilium runs.")
@click.option("--agent-pod-selector", default="k8s-app=cilium", show_default=True, help="Labels of the agents' pods.")
@click.option("--single-node", is_flag=True, help="Only what a single node is enough for.")
@click.option("--force-deploy", is_flag=True, help="Deploy the test's pods anew.")
@click.option("--include-unsafe-tests", is_flag=True, help="Tests too that change what nodes let in and out.")
@click.option("--connect-timeout", type=Duration(), default="2s", show_default=True, help="For a connection.")
@click.option("--request-timeout", type=Duration(), default="10s", show_default=True, help="For a whole request.")
@click.option("--retry", type=click.IntRange(0), default=3, show_default=True, help="Requests to the world, anew.")
@click.option("--retry-delay", type=Duration(), default="3s", show_default=True, help="Before each of them.")
@click.option("--curl-insecure", is_flag=True, help="Take any certificate.")
@click.option("--external-target", default="one.one.one.one.", show_default=True, help="A name in the world.")
@click.option("--external-ipv4", "--external-ip", metavar="ADDRESS", help="In the world.  [default: 1.1.1.1]")
@click.option(
    "--external-other-ipv4", "--external-other-ip", metavar="ADDRESS", help="Another one.  [default: 1.0.0.1]"
)
@click.option("--external-cidrv4", "--external-cidr", metavar="CIDR", help="With both.  [default: 1.0.0.0/8]")
@click.option("--external-ipv6", metavar="ADDRESS", help="The same for IPv6.  [default: 2606:4700:4700::1111]")
@click.option("--external-other-ipv6", metavar="ADDRESS", help="[default: 2606:4700:4700::1001]")
@click.option("--external-cidrv6", metavar="CIDR", help="[default: 2606:4700:4700::/96]")
@click.option("--curl-image", metavar="IMAGE", help="Of clients.")
@click.option("--json-mock-image", metavar="IMAGE", help="Of the echo pods.")
@click.option("--dns-test-server-image", metavar="IMAGE", help="Of the name server in the echo pods.")
@click.option(
    "--hubble",
    type=bool,
    is_flag=False,
    flag_value="true",
    default=True,
    show_default=True,
    help="Ask Hubble for flows.",
)
@click.option(
    "--flow-validation",
    type=click.Choice(["disabled", "warning", "strict"]),
    default="warning",
    show_default=True,
    help="What flows that are missing, or should not be, mean.",
)
@click.option("--print-flows", is_flag=True, help="Print the flows of every action.")
@click.option("--junit-file", type=click.Path(path_type=Path), help="Write a report in JUnit's XML to this file, too.")
@click.option("--junit-property", multiple=True, metavar="KEY=VALUE", help="For that report. May be repeated.")
@click.option("--timeout", type=Duration(), default="0", help="For the whole suite; 0 is none.")
@click.option("-v", "--verbose", is_flag=True, help="Print every action.")
@click.option("-d", "--debug", is_flag=True, help="Print what is executed.")
@click.option("-t", "--timestamp", is_flag=True, help="Print when.")
@click.option("--context", default="", help="Of the kubeconfig.")
@click.option("--kubeconfig", help="Default: $KUBECONFIG, then ~/.kube/config.")
def test(**given: Any) -> None:
    """Deploy clients and servers, and see under many policies who reaches whom.

    The tests, their names and pods are those of upstream's command. The pods stay for the next run: delete the
    namespace to be rid of them. Exit status 0: all passed; 1: not so.
    """
    from cilium.cli.cluster.connectivity.printing import Printer
    from cilium.connectivity.suite.report import junit_document, summary

    printer = Printer(
        verbose=given["verbose"], debug=given["debug"], timestamp=given["timestamp"], flows=given["print_flows"]
    )
    options = _options(given)
    results, wrong = asyncio.run(_run(given, options, printer))
    printer.end_dots()
    if given["junit_file"] is not None:
        properties = dict(item.partition("=")[::2] for item in given["junit_property"])
        given["junit_file"].parent.mkdir(parents=True, exist_ok=True)
        given["junit_file"].write_bytes(junit_document(results, {"Args": "|".join(sys.argv[3:]), **properties}, wrong))
    if results and not wrong:
        click.echo()
        for line in summary(results):
            click.echo(line)
    failed = sum(result.outcome.value == "failed" for result in results)
    if wrong or failed:
        raise click.ClickException(wrong or f"connectivity test failed: {failed} tests failed")


def _options(given: dict[str, Any]) -> Options:
    """Raises click.BadParameter."""
    from cilium.connectivity.suite.options import OUTSIDE, External, Filter, FlowValidation, Images, Options

    filters = tuple(word for words in given["tests"] for word in words.split(","))
    try:
        Filter(filters)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--test") from None
    images = {name: given[option] for name, option in _IMAGES.items() if given[option]}
    outside = {
        family: External(
            ip=given[f"external_ipv{family}"] or place.ip,
            other_ip=given[f"external_other_ipv{family}"] or place.other_ip,
            cidr=given[f"external_cidrv{family}"] or place.cidr,
        )
        for family, place in OUTSIDE.items()
    }
    return Options(
        namespace=given["test_namespace"],
        cilium_namespace=given["namespace"],
        agents=given["agent_pod_selector"],
        filters=filters,
        single_node=given["single_node"],
        force_deploy=given["force_deploy"],
        unsafe=given["include_unsafe_tests"],
        connect_timeout=given["connect_timeout"],
        request_timeout=given["request_timeout"],
        curl_insecure=given["curl_insecure"],
        retry=given["retry"],
        retry_delay=given["retry_delay"],
        target=given["external_target"],
        outside=outside,
        images=Images(**images),
        hubble=given["hubble"],
        flows=FlowValidation(given["flow_validation"]),
    )


_IMAGES = {"curl": "curl_image", "json_mock": "json_mock_image", "dns_server": "dns_test_server_image"}


async def _run(given: dict[str, Any], options: Options, printer: Any) -> tuple[list[TestResult], str]:
    """Results, and why there are no more. An interrupt by key or SIGTERM ends the test that runs; its policies go."""
    from cilium.connectivity.suite.cluster import SuiteError
    from cilium.connectivity.suite.events import Event, TestResult
    from cilium.connectivity.suite.run import run
    from cilium.sources.kubernetes.client import Client
    from cilium.sources.kubernetes.config import resolve
    from cilium.sources.kubernetes.errors import ApiError, ConfigError, Unreachable

    results: list[TestResult] = []

    def tell(event: Event) -> None:
        printer(event)
        if isinstance(event, TestResult):
            results.append(event)

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        config = resolve(kubeconfig=kubeconfig_path(given["kubeconfig"]), context=given["context"])
        async with Client(config, user_agent="cilium-cli") as client, asyncio.timeout(given["timeout"] or None):
            await run(client, options, tell)
    except (SuiteError, ApiError, ConfigError, Unreachable) as error:
        return results, str(error)
    except TimeoutError:
        return results, f"not within {given['timeout']:g} s (--timeout): {len(results)} tests were run"
    except asyncio.CancelledError:
        return results, f"cancelled after {len(results)} tests"
    return results, ""
