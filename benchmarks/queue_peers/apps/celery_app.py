"""Celery: acks late, so that a job survives its worker."""

from celery import Celery
from done import REDIS
from done import done as noop_of
from done import slow as slow_of

app = Celery("bench", broker=REDIS)
app.conf.update(task_acks_late=True, task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@app.task
def noop(path):
    noop_of(path)


@app.task
def slow(path, seconds):
    slow_of(path, seconds)


def submit(path):
    noop.delay(path)


def submit_slow(path, seconds):
    slow.delay(path, seconds)


WORKER = ["-m", "celery", "-A", "celery_app", "worker", "--pool", "solo", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"]
