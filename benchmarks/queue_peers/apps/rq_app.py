"""RQ: its default worker, which forks for each job."""

from done import REDIS, done, slow
from redis import Redis
from rq import Queue

queue = Queue("bench", connection=Redis.from_url(REDIS))


def submit(path):
    queue.enqueue(done, path)


def submit_slow(path, seconds):
    queue.enqueue(slow, path, seconds)


WORKER = ["-m", "rq.cli", "worker", "bench", "--url", REDIS, "--quiet"]
