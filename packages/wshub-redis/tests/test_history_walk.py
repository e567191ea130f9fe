"""Random walks through faults: no client misses or repeats a message without being told."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import redis
from fleet import wait_until
from history_follower import Follower, Gap, Seen, check
from history_hubs import event, open_hub
from redis_servers import RedisServer, run_server
from tcp_proxy import TCPProxy, run_proxy

from wshub_core import BridgeState, BridgeUnavailableError, Hub
from wshub_redis import RedisBridge

HUBS = 2

STEPS = 22


@dataclass
class Site:
    """A hub that can be replaced.

    Attributes:
        stack: Closes the hub and its bridge.
        number: The number of the next message.
    """

    name: int
    stack: AsyncExitStack
    hub: Hub
    bridge: RedisBridge
    number: int = 0

    def next_data(self) -> list[int]:
        """Return the data of the next message of this site."""
        self.number += 1
        return [self.name, self.number]


@dataclass
class Walk:
    """Two hubs behind a proxy to a primary, which has a replica.

    Attributes:
        confirmed: The data of confirmed messages, each with the number of the step.
        placed: The followers that had a position at the end of an earlier step.
        last_gaps: By follower, the step of its last gap. A client without a position is told of no
            loss.
        last_loss: The step in which the server has lost data last.
    """

    random: random.Random
    primary: RedisServer
    replica: RedisServer
    way: TCPProxy
    replication: TCPProxy
    sites: list[Site] = field(default_factory=list)
    followers: dict[Follower, Site | None] = field(default_factory=dict)
    confirmed: list[tuple[list[int], int]] = field(default_factory=list)
    gaps: dict[Follower, int] = field(default_factory=dict)
    placed: set[Follower] = field(default_factory=set)
    last_gaps: dict[Follower, int] = field(default_factory=dict)
    last_loss: int = 0
    step: int = 0
    log: list[str] = field(default_factory=list)

    # Hubs and clients.

    async def open_site(self, name: int) -> None:
        stack = AsyncExitStack()
        replay_seconds = self.random.choice([0.3, 20.0])
        opening = open_hub(self.way.url, replay_seconds=replay_seconds, require_redis=False)
        hub, bridge = await stack.enter_async_context(opening)
        self.sites.append(Site(name, stack, hub, bridge))

    async def restart_hub(self) -> None:
        site = self.random.choice(self.sites)
        for follower, at in self.followers.items():
            if at is site:
                await self.leave(follower)
        self.sites.remove(site)
        await site.stack.aclose()
        # Another source, so that its numbers begin again.
        await self.open_site(site.name + HUBS)

    async def leave(self, follower: Follower) -> None:
        await follower.disconnect()
        self.followers[follower] = None

    async def come(self) -> None:
        away = [follower for follower, site in self.followers.items() if site is None]
        if not away and len(self.followers) < 6:
            away = [Follower("log")]
        if away:
            follower, site = self.random.choice(away), self.random.choice(self.sites)
            self.followers[follower] = site
            await follower.connect(site.hub)

    async def go(self) -> None:
        present = [follower for follower, site in self.followers.items() if site is not None]
        if present:
            await self.leave(self.random.choice(present))

    # Messages.

    async def publish(self) -> None:
        for _ in range(self.random.randint(1, 30)):
            site = self.random.choice(self.sites)
            site.hub.publish("log", event(site.next_data()))
            if self.random.random() < 0.2:
                await asyncio.sleep(0.002)

    async def publish_confirmed(self) -> None:
        site = self.random.choice(self.sites)
        for _ in range(self.random.randint(1, 5)):
            data = site.next_data()
            with contextlib.suppress(BridgeUnavailableError):
                async with asyncio.timeout(10):
                    await site.bridge.publish("log", event(data))
                self.confirmed.append((data, self.step))

    # Faults.

    async def lose_connections(self) -> None:
        with self.primary.client() as client:
            kind = self.random.choice(["normal", "pubsub"])
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def cut(self) -> None:
        self.way.is_refusing = True
        self.way.close_connections()
        await self.publish()
        await asyncio.sleep(self.random.choice([0.05, 0.6]))
        await self.publish()
        self.way.is_refusing = False

    async def pause(self) -> None:
        self.primary.pause()
        await self.publish()
        await asyncio.sleep(0.2)
        self.primary.resume()

    async def restart_server(self) -> None:
        has_data = self.random.random() < 0.5
        self.log[-1] += " with older data" if has_data else " without data"
        if has_data:
            with self.primary.client() as client:
                # A replica may have made the server save in the background.
                await wait_until(lambda: not client.info()["rdb_bgsave_in_progress"])
                client.save()
            await self.publish()
            await self.publish_confirmed()
        self.primary.kill()
        self.last_loss = self.step
        if not has_data:
            (self.primary.path / "dump.rdb").unlink(missing_ok=True)
        await self.publish()
        self.primary.start()
        await asyncio.to_thread(self.primary.wait_ready)

    async def fail_over(self) -> None:
        await wait_until(self.is_replicated)
        if self.random.random() < 0.7:
            self.log[-1] += " with a replica that lags"
            self.replication.is_refusing = True
            self.replication.close_connections()
            await self.publish()
            await self.publish_confirmed()
        self.primary.kill()
        self.last_loss = self.step
        old, new = self.primary, self.replica
        with new.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        self.way.target = self.replication.target = new.port
        self.replication.is_refusing = False
        self.primary, self.replica = new, old
        (old.path / "dump.rdb").unlink(missing_ok=True)
        old.start()
        await asyncio.to_thread(old.wait_ready)
        self.replicate()

    def replicate(self) -> None:
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self.replication.port)

    def is_replicated(self) -> bool:
        with self.replica.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    # The walk.

    async def take_step(self) -> None:
        actions = {
            self.publish: 6,
            self.publish_confirmed: 4,
            self.come: 5,
            self.go: 2,
            self.restart_hub: 1,
            self.lose_connections: 2,
            self.cut: 1,
            self.pause: 1,
            self.restart_server: 1,
            self.fail_over: 1,
        }
        (action,) = self.random.choices(list(actions), list(actions.values()))
        self.step += 1
        self.log.append(action.__name__)
        with contextlib.suppress(redis.ConnectionError):
            await action()
        self.note_gaps()

    def note_gaps(self) -> None:
        for follower in self.followers:
            count = sum(isinstance(each, Gap) for each in follower.seen)
            if count != self.gaps.get(follower, 0):
                self.gaps[follower] = count
                self.last_gaps[follower] = self.step
            # Also one that has got its position in this step, maybe behind a loss.
            if follower not in self.placed:
                self.last_gaps[follower] = max(self.last_gaps.get(follower, 0), self.last_loss)
            if follower.has_position:
                self.placed.add(follower)

    async def end(self) -> None:
        """Wait until every client has seen the last message of every hub."""
        for follower, site in self.followers.items():
            if site is None:
                self.followers[follower] = self.sites[0]
                await follower.connect(self.sites[0].hub)
        await wait_until(lambda: all(each.bridge.state == BridgeState.UP for each in self.sites))
        self.step += 1
        ends = []
        for site in self.sites:
            ends.append(site.next_data())
            await site.bridge.publish("log", event(ends[-1]))
        await wait_until(lambda: all(end in each.data() for end in ends for each in self.followers))
        self.note_gaps()
        for follower in self.followers:
            await follower.disconnect()
        for site in self.sites:
            await site.stack.aclose()

    def check(self) -> None:
        check(list(self.followers))
        for follower in self.followers:
            seen = {repr(each.data) for each in follower.seen if isinstance(each, Seen)}
            missing = [
                data
                for data, step in self.confirmed
                if step > self.last_gaps.get(follower, 0) and repr(data) not in seen
            ]
            assert not missing, (missing, follower.seen)
            for segment in follower.segments():
                for name in {each.data[0] for each in segment}:
                    numbers = [each.data[1] for each in segment if each.data[0] == name]
                    assert numbers == sorted(set(numbers)), numbers


@asynccontextmanager
async def open_walk(seed: int) -> AsyncIterator[Walk]:
    options = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
    with run_server(*options) as primary, run_server(*options) as replica:
        async with run_proxy(primary.port) as way, run_proxy(primary.port) as replication:
            walk = Walk(random.Random(seed), primary, replica, way, replication)
            walk.replicate()
            for name in range(HUBS):
                await walk.open_site(name)
            yield walk


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(6))
async def test_no_client_misses_or_repeats_a_message_without_being_told(seed: int) -> None:
    async with open_walk(seed) as walk:
        try:
            for _ in range(STEPS):
                await walk.take_step()
            await walk.end()
            walk.check()
        except BaseException:
            print("steps:", walk.log)
            raise
