"""SPDY/3.1: frames in any pieces, streams between two ends, what is no SPDY."""

from __future__ import annotations

import asyncio
import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelab.streaming.duplex import StreamDuplex
from kubelab.streaming.spdy import SpdyConnection
from kubelab.streaming.spdy_dictionary import DICTIONARY
from kubelab.streaming.spdy_frames import (
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    MoreHeaders,
    Ping,
    RstStream,
    SpdyError,
    SynReply,
    SynStream,
)  # fmt: skip

NUMBER = st.integers(1, 2**31 - 1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
HEADERS = st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), max_size=60), max_size=6)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Data, NUMBER, st.binary(max_size=300), st.booleans()),
    st.builds(SynStream, NUMBER, HEADERS, st.booleans(), st.integers(0, 7)),
    st.builds(SynReply, NUMBER, HEADERS, st.booleans()),
    st.builds(MoreHeaders, NUMBER, HEADERS, st.booleans()),
    st.builds(RstStream, NUMBER, st.integers(1, 11)),
    st.builds(Ping, NUMBER),
    st.builds(GoAway, NUMBER, st.integers(0, 2)),
)


def test_the_dictionary_is_the_published_one() -> None:
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2, "the identifier that zlib streams of SPDY/3 carry"


@given(st.lists(FRAMES, max_size=12), st.integers(1, 40))
def test_frames_survive_any_cutting(frames: list[Frame], step: int) -> None:
    encoder, decoder = Encoder(), Decoder()
    raw = b"".join(encoder.encode(frame) for frame in frames)
    got = [frame for place in range(0, len(raw), step) for frame in decoder.feed(raw[place : place + step])]
    assert got == frames


@given(st.binary(max_size=400))
def test_noise_is_refused_or_waited_for(noise: bytes) -> None:
    with contextlib.suppress(SpdyError):  # any other exception fails the test
        Decoder().feed(noise)


@given(st.lists(FRAMES, min_size=1, max_size=5), st.integers(0, 2000), st.integers(0, 255))
def test_a_flipped_byte_is_an_error_or_other_frames(frames: list[Frame], place: int, value: int) -> None:
    encoder = Encoder()
    raw = bytearray(b"".join(encoder.encode(frame) for frame in frames))
    raw[place % len(raw)] = value
    with contextlib.suppress(SpdyError):
        Decoder().feed(bytes(raw))


def test_what_the_framing_golden_bytes_say() -> None:
    """By hand from the draft: version 3, type 6, length 4; data with the FIN flag."""
    assert Encoder().encode(Ping(7)) == bytes.fromhex("80030006 00000004 00000007")
    assert Encoder().encode(Data(1, b"hi", fin=True)) == bytes.fromhex("00000001 01000002") + b"hi"


def test_headers_that_blow_up_are_refused() -> None:
    bomb = Encoder().encode(SynStream(1, {"x": "a" * 200_000}))
    with pytest.raises(SpdyError, match="more than"):
        Decoder().feed(bomb)


class Ends:
    """Two connections over a socket pair of the machine's loopback."""

    async def __aenter__(self) -> tuple[SpdyConnection, SpdyConnection]:
        accepted: asyncio.Future[StreamDuplex] = asyncio.get_running_loop().create_future()
        self._server = await asyncio.start_server(lambda r, w: accepted.set_result(StreamDuplex(r, w)), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        client = SpdyConnection(StreamDuplex(*await asyncio.open_connection(host, port)), server=False)
        server = SpdyConnection(await accepted)
        self._both = await client.__aenter__(), await server.__aenter__()
        return self._both

    async def __aexit__(self, *_: object) -> None:
        for end in self._both:
            await end.__aexit__()
        self._server.close()


async def test_streams_carry_both_ways_and_end_one_by_one() -> None:
    async with Ends() as (client, server):
        ours = await client.open({"streamtype": "data", "port": "80"})
        theirs = await server.accept()
        assert theirs is not None
        assert theirs.headers == {"streamtype": "data", "port": "80"}
        blob = bytes(range(256)) * 1000
        await ours.write(blob)
        await ours.close()
        got = b""
        while chunk := await theirs.read():
            got += chunk
        assert got == blob
        assert not theirs.was_reset
        await theirs.write(b"still open this way")
        assert await ours.read() == b"still open this way"
        await theirs.reset()
        assert await ours.read() == b""
        assert ours.was_reset
        with pytest.raises(ConnectionError):
            await ours.write(b"x")


async def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    async with Ends() as (client, server):
        ours = await client.open({})
        theirs = await server.accept()
        assert theirs is not None
        writing = asyncio.create_task(ours.write(bytes(64 << 20)))
        done, _ = await asyncio.wait({writing}, timeout=0.3)
        assert not done, "64 MB are more than anybody should hold for a reader that sleeps"
        total = 0
        while total < 64 << 20:
            total += len(await theirs.read())
        await writing


async def test_when_the_peer_is_gone_streams_end() -> None:
    async with Ends() as (client, server):
        await client.open({})
        theirs = await server.accept()
        assert theirs is not None
        await client.__aexit__()
        assert await theirs.read() == b""
        assert await server.accept() is None


async def test_a_stream_of_the_wrong_parity_is_refused() -> None:
    async with Ends() as (client, server):
        await client.send(SynStream(2, {}))
        await client.send(SynStream(3, {"a": "b"}))
        stream = await server.accept()
        assert stream is not None
        assert stream.number == 3
