"""Places at the door: who gets one, who makes room, who is too slow."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from ingress import connections
from ingress.connections import Connections, address_of
from shared import settings
from tests.support.waiting import until


class Wire(asyncio.Transport):
    """A transport that remembers how it ended."""

    def __init__(self, address="192.0.2.1"):
        super().__init__({"peername": (address, 1234)})
        self.aborted = self.closing = False

    def abort(self):
        self.aborted = self.closing = True

    def is_closing(self):
        return self.closing


class Http(asyncio.Protocol):
    """A server behind the door that remembers what it was told."""

    def __init__(self):
        self.told = []

    def connection_made(self, transport):
        self.told.append("made")

    def data_received(self, data):
        self.told.append(data)

    def pause_writing(self):
        self.told.append("paused")

    def resume_writing(self):
        self.told.append("resumed")

    def connection_lost(self, exc):
        self.told.append("lost")


def knock(everybody, address="192.0.2.1"):
    """A new connection; its transport is `wire`."""
    made = everybody.guarding(Http)()
    made.connection_made(Wire(address))
    return made


def places(**limits):
    return Connections(**{"connections_max": 3, "per_address_max": 9, **limits})


HEAD = b"GET / HTTP/1.1\r\nHost: door\r\n\r\n"


def test_who_never_ends_a_head_costs_no_server():
    """Nobody stands behind a connection before its first whole head, which is handed over as it came, with what follows it."""
    made = knock(places())
    for said in HEAD[:-1]:
        made.data_received(bytes([said]))
        assert made._inner is None

    made.data_received(HEAD[-1:] + b"more")
    server = made._inner
    made.data_received(b"G")
    made.connection_lost(None)

    assert server.told == ["made", HEAD + b"more", b"G", "lost"]


NO_HEADS = {
    "TLS": b"\x16\x03\x01\x02\x00",
    "a line before it": b"\r\n",
    "a bare line feed": b"GET / HTTP/1.1\n",
    "a bare line feed later": b"GET / HTTP/1.1\r\nHost: door\n",
    "more than any": b"G" * (connections.HEAD_BYTES_MAX + 1),
}


@pytest.mark.parametrize("said", NO_HEADS.values(), ids=NO_HEADS.keys())
def test_what_becomes_no_head_is_refused_at_once(said):
    """Who speaks another protocol, or this one wrongly, hears of it, instead of nothing for ten seconds."""
    made = knock(places())
    made.data_received(said)

    assert made._inner.told == ["made", said]


def test_the_longest_head_is_waited_for():
    """As long as it may still end within the limit."""
    made = knock(places())
    made.data_received(b"G" * connections.HEAD_BYTES_MAX)

    assert made._inner is None


def test_one_address_has_only_so_many_places():
    """The next one of it is refused, one of another address is not; a place that was left is free."""
    everybody = places(per_address_max=2)
    first, second, third = (knock(everybody) for _ in range(3))
    other = knock(everybody, "192.0.2.2")

    assert [made.transport.aborted for made in (first, second, third, other)] == [False, False, True, False]
    first.connection_lost(None)
    assert not knock(everybody).transport.aborted


def test_the_longest_quiet_stranger_makes_room_first():
    """Then who was served longest ago; who is being served never."""
    everybody = places()
    served, rested, stranger = (knock(everybody) for _ in range(3))
    served.began()
    rested.began()
    rested.ended()

    assert not knock(everybody).transport.aborted
    assert (stranger.transport.aborted, rested.transport.aborted) == (True, False)
    knock(everybody).began()
    knock(everybody).began()
    assert rested.transport.aborted
    assert not served.transport.aborted


def test_when_all_are_being_served_who_comes_is_refused():
    """Nobody loses an answer to a newcomer."""
    everybody = places()
    served = [knock(everybody) for _ in range(3)]
    for made in served:
        made.began()

    assert knock(everybody).transport.aborted
    assert not any(made.transport.aborted for made in served)
    assert len(everybody) == 3


def test_nobody_makes_room_while_we_are_late():
    """Under more work than we can do, who has waited for longest must not be the one who goes: nobody would ever be served."""
    everybody = places()
    waiting = [knock(everybody) for _ in range(3)]
    everybody.is_late = True

    assert knock(everybody).transport.aborted
    assert not any(one.transport.aborted for one in waiting)


async def test_a_late_look_is_noticed(monkeypatch):
    """What keeps the loop busy keeps us from looking; the next look that is in time says so, too."""
    monkeypatch.setattr(connections, "CHECK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(connections, "LATE_SECONDS", 0.05)
    everybody = places()
    async with everybody.watched():
        await asyncio.sleep(0.02)
        time.sleep(0.1)  # noqa: ASYNC251 - a loop that is held up is what this is about
        # A late look is news for one look only.
        await until(lambda: everybody.is_late, "the late look is noticed", every_seconds=0)
        await until(lambda: not everybody.is_late, "the next look is in time", every_seconds=0)


async def test_a_fault_in_one_look_ends_no_later_look(monkeypatch):
    """Whoever watches is one task for all connections, and for as long as the door stands."""
    monkeypatch.setattr(connections, "CHECK_EVERY_SECONDS", 0)
    everybody = places()
    broken, sound = knock(everybody), knock(everybody)
    looked = []
    monkeypatch.setattr(
        connections.Connection, "check", lambda one, _now: looked.append(one) if one is sound else looked.append(one) or 1 / 0
    )
    async with everybody.watched():
        await until(lambda: looked.count(broken) > 1 and looked.count(sound) > 1, "both are looked at again", every_seconds=0)


def test_leaving_twice_gives_back_one_place():
    """A transport tells of its end after we ended it."""
    everybody = places(connections_max=1)
    first = knock(everybody)
    second = knock(everybody)
    first.connection_lost(None)

    assert len(everybody) == 1
    assert not second.transport.aborted


LATE = connections.HEAD_SECONDS_MAX + 0.1


def slow(everybody):
    """A connection for each way of being slow, and the seconds after which it must be gone."""
    made = [knock(everybody) for _ in range(5)]
    _silent, head, large, unread, closing = made
    head.data_received(b"POST")
    large.data_received(b"x" * (connections.HEAD_BYTES_MAX + 1))
    for one in (unread, closing):
        one.data_received(b"GET")
        one.began()
        one.ended()
    unread.pause_writing()
    closing.transport.closing = True
    return made


def test_who_is_too_slow_goes():
    """Silence, a head that trickles, one that is too large, an answer that is not read, an end that does not come."""
    everybody = places(connections_max=9, per_address_max=9)
    made = slow(everybody)
    now = made[0].waiting_since

    for one in made:
        one.check(now + 1.5)
    assert [one.transport.aborted for one in made] == [False, False, True, False, False]
    for one in made:
        one.check(now + 1.5 + LATE)
    assert all(one.transport.aborted for one in made)
    assert len(everybody) == 0


def test_who_is_being_served_or_rests_may_stay():
    """A body has its own deadline, and a pause between requests is the keep-alive's."""
    everybody = places()
    busy, resting = knock(everybody), knock(everybody)
    for one in (busy, resting):
        one.data_received(b"POST")
        one.began()
        one.data_received(b"x" * 100_000)
    resting.ended()

    for one in (busy, resting):
        one.check(10**12)
    assert not busy.transport.aborted
    assert not resting.transport.aborted


def test_of_too_many_unread_answers_the_one_that_waits_for_longest_goes(monkeypatch):
    """Whoever has read meanwhile holds nothing, and counts for nothing."""
    monkeypatch.setattr(connections, "UNREAD_CONNECTIONS_MAX", 2)
    everybody = places(connections_max=9)
    first, read, third, fourth = (knock(everybody) for _ in range(4))
    for one in (first, read, third):
        one.pause_writing()
        if one is read:
            one.resume_writing()
    assert not any(one.transport.aborted for one in (first, read, third))

    fourth.pause_writing()
    assert [one.transport.aborted for one in (first, read, third, fourth)] == [True, False, False, False]


def test_an_unread_answer_that_is_gone_takes_nobody_s_place(monkeypatch):
    """Who has left is forgotten: the next too many costs the one that really waits."""
    monkeypatch.setattr(connections, "UNREAD_CONNECTIONS_MAX", 1)
    everybody = places(connections_max=9)
    gone, second, third = (knock(everybody) for _ in range(3))
    gone.pause_writing()
    gone.connection_lost(None)
    second.pause_writing()
    assert not second.transport.aborted

    third.pause_writing()
    assert second.transport.aborted
    assert not third.transport.aborted


def test_a_server_hears_that_its_reader_is_slow():
    """Else it would go on to write, and its memory would be what the reader does not take."""
    made = knock(places())
    made.data_received(HEAD)
    made.pause_writing()
    made.resume_writing()

    assert made._inner.told == ["made", HEAD, "paused", "resumed"]


def test_who_rested_and_is_served_again_makes_no_room():
    """A kept connection in the midst of its next request is as busy as in its first."""
    everybody = places(connections_max=1)
    kept = knock(everybody)
    for _ in range(2):
        kept.data_received(b"GET")
        kept.began()
        kept.ended()
    kept.began()

    assert knock(everybody).transport.aborted
    assert not kept.transport.aborted


def test_the_metrics_tell_how_many_are_here_and_why_others_went():
    everybody = places(connections_max=1)
    before = REGISTRY.get_sample_value("ingress_connections_dismissed_total", {"reason": "full"}) or 0
    silent = knock(everybody)
    assert REGISTRY.get_sample_value("ingress_connections_open") == 1

    comes = knock(everybody)
    assert silent.transport.aborted
    comes.connection_lost(None)

    assert REGISTRY.get_sample_value("ingress_connections_open") == 0
    assert REGISTRY.get_sample_value("ingress_connections_dismissed_total", {"reason": "full"}) == before + 1


def test_a_reader_who_reads_again_may_stay():
    """Slow for a moment is not slow."""
    made = knock(places())
    made.data_received(b"GET")
    made.began()
    made.pause_writing()
    made.resume_writing()

    made.check(10**12)
    assert not made.transport.aborted


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.1", 1), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 1, 0, 0), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1", 1, 0, 0), "192.0.2.1"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        (None, ""),
        ("", ""),
    ],
)
def test_an_address_is_whose_it_is(peer, address):
    """Whoever has one IPv6 address has 2^64 of them."""
    assert address == address_of(peer)


def test_few_files_are_few_places():
    """A process that may open 128 files does not promise 4096 places."""
    assert connections.of_settings(settings.Http(_env_file=None), files_max=128)._connections_max == 64
    assert connections.of_settings(settings.Http(_env_file=None), files_max=100_000)._connections_max == 4096


async def test_a_crowd_that_has_left_leaves_its_memory(monkeypatch):
    """Once, when all but a few of it are gone; not while it is there."""
    monkeypatch.setattr(connections, "CHECK_EVERY_SECONDS", 0)
    monkeypatch.setattr(connections, "CROWD_CONNECTIONS_MIN", 3)
    given_back = []
    monkeypatch.setattr(connections.garbage, "give_back", lambda: given_back.append(1))
    everybody = places()
    async with everybody.watched():
        crowd = [knock(everybody) for _ in range(3)]
        await ticks()
        assert given_back == []
        for one in crowd:
            one.connection_lost(None)
        await ticks()
        assert given_back == [1]


async def ticks():
    """Let the one who watches look a few times."""
    for _ in range(6):
        await asyncio.sleep(0)
