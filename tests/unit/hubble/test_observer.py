"""The flow service over gRPC, from a ring in memory to the client."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from unit.hubble.serving import Serving, until
from unit.hubble.world import endpoint, numbered, record, records

from cilium.api.proto.flow import flow_pb2 as pb
from cilium.api.proto.observer import observer_pb2 as api
from cilium.api.proto.observer import observer_pb2_grpc
from cilium.api.proto.peer import peer_pb2, peer_pb2_grpc
from cilium.datapath.generated import DropReason, EventFlags, EventType, FlowVerdict
from cilium.hubble.server import HubbleServer, ListenError
from cilium.tables.kubernetes import CiliumNode


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


def ports(responses: list[api.GetFlowsResponse]) -> list[int]:
    return [response.flow.l4.TCP.source_port for response in responses if response.HasField("flow")]


def conversation(count: int, start: int = 1000) -> Any:
    many = numbered(count)
    many["source_port"] = range(start, start + count)
    return many


async def get(stub: Any, **request: Any) -> list[api.GetFlowsResponse]:
    return [response async for response in stub.GetFlows(api.GetFlowsRequest(**request))]


async def test_last_first_and_all(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(conversation(300))
        assert ports(await get(stub, number=3)) == [1297, 1298, 1299]
        assert ports(await get(stub, number=2, first=True)) == [1000, 1001]
        assert ports(await get(stub)) == list(range(1000, 1300))
        assert ports(await get(stub, number=5000)) == list(range(1000, 1300))


async def test_last_counts_what_the_filters_leave(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(conversation(300))
        white = [pb.FlowFilter(source_port=["1001", "1007", "1280"])]
        assert ports(await get(stub, number=2, whitelist=white)) == [1007, 1280]
        black = [pb.FlowFilter(source_port=["1299"])]
        assert ports(await get(stub, number=1, blacklist=black)) == [1298]


async def test_responses_name_the_node_and_the_time(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(record())
        (response,) = await get(stub)
        assert response.node_name == response.flow.node_name == "default/n1"
        assert response.time == response.flow.time
        status = await stub.ServerStatus(api.ServerStatusRequest())
        assert abs(response.time.seconds - time.time()) < 60
        assert (status.num_flows, status.max_flows, status.seen_flows) == (1, 1000, 1)
        assert status.flows_rate > 0
        assert status.num_connected_nodes.value == 1


async def test_since_and_until(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(conversation(10))
        times = [response.time for response in await get(stub)]
        assert ports(await get(stub, since=times[7])) == [1007, 1008, 1009]
        assert ports(await get(stub, since=times[2], until=times[4])) == [1002, 1003, 1004]
        assert ports(await get(stub, until=times[8], number=2)) == [1007, 1008]
        with pytest.raises(grpc.aio.AioRpcError, match="since lies after until"):
            await get(stub, since=times[4], until=times[2])


async def test_following(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(conversation(3))
        call = stub.GetFlows(api.GetFlowsRequest(number=1, follow=True))
        assert (await call.read()).flow.l4.TCP.source_port == 1002
        serving.write(conversation(2, 2000))
        assert [(await call.read()).flow.l4.TCP.source_port for _ in range(2)] == [2000, 2001]
        call.cancel()
        await until(lambda: serving.server.store.waiting == 0)

        only_new = stub.GetFlows(api.GetFlowsRequest(follow=True))
        reading = asyncio.ensure_future(only_new.read())
        await until(lambda: serving.server.store.waiting == 1)
        serving.write(conversation(1, 3000))
        assert (await reading).flow.l4.TCP.source_port == 3000
        only_new.cancel()


async def test_following_ends_at_until(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(conversation(2))
        last = (await get(stub))[1].time
        assert ports(await get(stub, follow=True, first=True, since={"seconds": 1}, until=last)) == [1000, 1001]
        assert ports(await get(stub, follow=True, number=1, until=last)) == [1001]


async def test_a_packet_becomes_its_three_flows_and_a_drop_says_who_denied(serving: Serving) -> None:
    decided = EventFlags.EGRESS_DECIDED | EventFlags.INGRESS_DECIDED
    async with serving.running() as stub:
        serving.write(
            record(
                type=EventType.DROP,
                reason=DropReason.POLICY_DENY,
                verdict=FlowVerdict.DROPPED,
                flags=decided,
                egress_cookie=7,
                ingress_cookie=9,
            )
        )
        flows = [response.flow for response in await get(stub)]
        assert [flow.event_type.type for flow in flows] == [5, 5, 1]
        assert flows[2].ingress_denied_by[0].name == "echo-shut"
        assert (flows[2].source.pod_name, flows[2].destination.pod_name) == ("client", "echo")


async def test_overwritten_flows_are_gone_and_kernel_losses_are_told(tmp_path: Path) -> None:
    serving = Serving(tmp_path, capacity=8)
    async with serving.running() as stub:
        serving.write(conversation(20))
        assert ports(await get(stub)) == list(range(1012, 1020))
        serving.lost = 5
        for number, expected in ((1, 1), (0, 1), (3, 1), (2, 0)):
            told = [one.lost_events for one in await get(stub, number=number) if one.HasField("lost_events")]
            assert [(event.source, event.num_events_lost) for event in told] == [
                (pb.PERF_EVENT_RING_BUFFER, 5)
            ] * expected
            serving.write(conversation(1, 5000))


async def test_a_slow_follower_is_told_what_it_missed(tmp_path: Path) -> None:
    serving = Serving(tmp_path, capacity=8)
    async with serving.running() as stub:
        serving.write(conversation(1))
        call = stub.GetFlows(api.GetFlowsRequest(number=1, follow=True))
        assert (await call.read()).flow.l4.TCP.source_port == 1000
        serving.write(conversation(30, 2000))
        first = await call.read()
        assert (first.lost_events.source, first.lost_events.num_events_lost) == (pb.HUBBLE_RING_BUFFER, 22)
        assert (await call.read()).flow.l4.TCP.source_port == 2022
        call.cancel()


async def test_a_client_that_does_not_read_stops_nobody(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(conversation(1000))
        lazy = stub.GetFlows(api.GetFlowsRequest(follow=True, first=True, number=0, since={"seconds": 1}))
        await lazy.read()
        for _ in range(60):
            serving.write(conversation(1000))
            serving.server.collector.poll()
            await asyncio.sleep(0)
        assert serving.server.store.end == 61_000
        assert len(await get(stub, number=10)) >= 10
        lazy.cancel()


async def test_field_masks(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(record())
        (response,) = await get(stub, field_mask={"paths": ["verdict", "source.pod_name"]})
        assert response.flow == pb.Flow(verdict=pb.FORWARDED, source=pb.Endpoint(pod_name="client"))
        assert response.HasField("time")
        with pytest.raises(grpc.aio.AioRpcError, match="a flow has no field 'colour'"):
            await get(stub, field_mask={"paths": ["colour"]})


async def test_bad_filters_are_invalid_arguments(serving: Serving) -> None:
    async with serving.running() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await get(stub, whitelist=[pb.FlowFilter(source_ip=["nonsense"])])
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "whitelist[0].source_ip" in error.value.details()
        with pytest.raises(grpc.aio.AioRpcError, match=r"1001 filters: at most 1000") as error:
            await get(stub, blacklist=[pb.FlowFilter(source_port=["1"])] * 1001)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_times_that_no_record_has(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(conversation(3))
        ages = {"seconds": -5}, {"seconds": 1 << 62}
        assert len(await get(stub, since=ages[0], until=ages[1])) == 3
        assert await get(stub, since=ages[1]) == []
        assert await get(stub, until=ages[0]) == []


async def test_nodes_and_namespaces(serving: Serving) -> None:
    async with serving.running() as stub:
        serving.write(records(record(), record(source="10.0.2.30", source_endpoint=0, source_identity=3333)))
        (node,) = (await stub.GetNodes(api.GetNodesRequest())).nodes
        assert (node.name, node.num_flows, node.max_flows) == ("default/n1", 2, 1000)
        spaces = (await stub.GetNamespaces(api.GetNamespacesRequest())).namespaces
        assert [(one.cluster, one.namespace) for one in spaces] == [("default", "default"), ("default", "prod")]


async def test_agent_events(serving: Serving) -> None:
    async with serving.running() as stub:
        kept = [event async for event in stub.GetAgentEvents(api.GetAgentEventsRequest(number=1))]
        assert kept[0].agent_event.type == pb.AGENT_STARTED
        call = stub.GetAgentEvents(api.GetAgentEventsRequest(follow=True, number=1))
        await call.read()
        serving.cluster.endpoints.commit(upserts=[endpoint(30, "new", "10.0.1.30")])
        event = (await call.read()).agent_event
        assert (event.type, event.endpoint_update.pod_name) == (pb.ENDPOINT_CREATED, "new")
        serving.cluster.endpoints.commit(deletes=[30])  # type: ignore[list-item]
        assert (await call.read()).agent_event.type == pb.ENDPOINT_DELETED
        call.cancel()


async def test_debug_events_are_refused_with_a_way_out(serving: Serving) -> None:
    async with serving.running() as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="GetFlows tells of every drop"):
            await stub.GetDebugEvents(api.GetDebugEventsRequest()).read()


async def peers(serving: Serving) -> AsyncIterator[peer_pb2.ChangeNotification]:
    async with grpc.aio.insecure_channel(serving.address) as channel:
        async for change in peer_pb2_grpc.PeerStub(channel).Notify(peer_pb2.NotifyRequest()):
            yield change


async def test_peers_come_and_go(tmp_path: Path) -> None:
    serving = Serving(tmp_path, listen="127.0.0.1:0")
    writer = serving.cluster.nodes.writer("test")
    node = CiliumNode(name="n2", labels={}, internal_ips=())
    async with serving.running():
        writer.commit(upserts=[node])
        changes = peers(serving)
        added = await anext(changes)
        assert (added.name, added.type) == ("default/n2", peer_pb2.PEER_ADDED)
        writer.commit(deletes=["n2"])
        assert (await anext(changes)).type == peer_pb2.PEER_DELETED
        await changes.aclose()


async def test_a_socket_of_a_dead_server_is_replaced_one_of_a_living_is_not(tmp_path: Path) -> None:
    first, second = Serving(tmp_path), Serving(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(first.socket))
    async with first.running():
        with pytest.raises(ListenError, match="hubble-socket-path: another process serves"):
            await second.server.run()
    assert not first.socket.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_tcp_beside_the_socket(tmp_path: Path, host: str) -> None:
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    serving = Serving(tmp_path, listen=f":{port}")
    async with serving.running(), grpc.aio.insecure_channel(f"{host}:{port}") as channel:
        serving.write(record())
        assert len(await get(observer_pb2_grpc.ObserverStub(channel))) == 1


async def test_a_taken_port_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server: HubbleServer = Serving(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}").server
        with pytest.raises(ListenError, match="hubble-listen-address: cannot listen on 127"):
            await server.run()
