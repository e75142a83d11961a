"""cilium-dbg: looks into the agent of this node and into its BPF maps."""

from __future__ import annotations

import click

from cilium.cli.dbg import agent, bpf, load_balancer, maps, monitor, policy, policy_state, redirects, services, status


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look into the Cilium agent of this node."""


main.add_command(status.status)
main.add_command(agent.endpoint)
main.add_command(agent.identity)
main.add_command(agent.ip)
main.add_command(agent.node)
main.add_command(policy.policy)
for command in (policy_state.policy_selectors, policy_state.policy_verdict, policy_state.policy_wait):
    policy.policy.add_command(command)
main.add_command(agent.statedb)
main.add_command(agent.config)
main.add_command(agent.version)
main.add_command(services.service)
main.add_command(redirects.lrp)
main.add_command(bpf.bpf)
bpf.bpf.add_command(load_balancer.lb)
main.add_command(maps.map_group)
main.add_command(monitor.monitor)
