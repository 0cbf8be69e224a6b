"""Dramatiq: one process, its default eight threads."""

import dramatiq
from done import REDIS
from done import done as noop_of
from done import slow as slow_of
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=REDIS, namespace="dramatiq-bench"))


@dramatiq.actor
def noop(path):
    noop_of(path)


@dramatiq.actor
def slow(path, seconds):
    slow_of(path, seconds)


def submit(path):
    noop.send(path)


def submit_slow(path, seconds):
    slow.send(path, seconds)


WORKER = ["-m", "dramatiq", "dramatiq_app", "-p", "1"]
