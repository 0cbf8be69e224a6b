"""For each field of each body: what is refused, and what the sentence says of it."""

from __future__ import annotations

from typing import Any, NamedTuple

SCRIPT = "<script>alert(1)</script>"
WIDE = "x" * 100_000


class Bad(NamedTuple):
    """A value, how the sentence shows it, and what the sentence says is allowed."""

    value: Any
    shown: str
    allowed: str


NOT_NUMBERS = [Bad("20", "'20'", ""), Bad([1], "[1]", ""), Bad({}, "{}", ""), Bad(True, "true", ""), Bad("", "''", "")]


def numbers(span: str, *outside: Any, whole: bool = True) -> list[Bad]:
    kinds = [Bad(1.5, "1.5", "whole number"), *NOT_NUMBERS] if whole else NOT_NUMBERS
    return [*(Bad(value, str(value)[:50], span) for value in outside), *(Bad(bad.value, bad.shown, "number") for bad in kinds)]


def texts(longest: int, least: int = 1) -> list[Bad]:
    span = f"from {least} to {longest}" if least else f"at most {longest}"
    found = [
        Bad(5, "5", "text"),
        Bad(["x"], "['x']", "text"),
        Bad({"a": 1}, "{'a': 1}", "text"),
        Bad(False, "false", "text"),
        Bad("x" * (longest + 1), "characters)", span),
        Bad("a\x00b", "a\\x00b", "NUL"),
        Bad("\ud800", "\\ud800", "Unicode"),
    ]
    return [*found, Bad("", "''", span)] if least else found


def among(words: str) -> list[Bad]:
    return [
        Bad("", "''", words),
        Bad("IMAGE", "'IMAGE'", words),
        Bad(0, "0", words),
        Bad([], "[]", words),
        Bad(SCRIPT, "script", words),
        Bad("‮evil", "\\u202eevil", words),
    ]


def named(*values: str) -> list[Bad]:
    return [Bad(value, repr(value)[:40], "") for value in values]


def images() -> list[Bad]:
    return [Bad(value, repr(value)[:40], "image such as") for value in ("Web:1", "web:", "web@sha256:1", "a b", "../x", "-x", "web:1;rm")]


PICTURE = {"prompt": "x"}
JOB = {"job_type": "image_gen", "payload": {"prompt": "x"}}
KEY = {"name": "x", "role": "viewer"}
IMAGE = {"image_name": "x", "tag": "v1", "dockerfile_path": "x"}
MODEL = {"name": "x", "filename": "x.safetensors", "size": 100}
MODEL_FIELDS: dict[str, list[Bad]] = {
    "name": [
        *texts(150),
        *(Bad(value, "name", "letters, digits") for value in ("../x", "a/b", ".x", "x.", "x ", "nächtlich", "a\nb", "$(id)", SCRIPT)),
    ],
    "filename": [
        *texts(150),
        *(
            Bad(value, "filename", ".safetensors")
            for value in ("x.ckpt", "x.pt", "../x.safetensors", "/x.safetensors", ".safetensors", "x")
        ),
    ],
    "size": numbers("from 1 to", 0, -1, 2**60),
    "sha256": [Bad("x", "'x'", "pattern"), Bad("A" * 64, "AAAA", "pattern"), Bad(7, "7", "text")],
    "base": texts(150, 0),
    "source": texts(500, 0),
}
FIELDS: dict[str, tuple[dict[str, Any], dict[str, list[Bad]]]] = {
    "/api/vision/generate": (
        PICTURE,
        {
            "prompt": texts(10_000),
            "negative_prompt": texts(10_000, 0),
            "width": numbers("from 64 to 2048 in multiples of 8", 0, 63, 65, 2056, -64, 10**30),
            "height": numbers("from 64 to 2048 in multiples of 8", 0, 100, 4096, -(2**63)),
            "steps": numbers("from 1 to 150", 0, 151, -1, 10**9),
            "guidance_scale": numbers("from 0 to 30", -0.1, 30.1, 1e308, whole=False),
            "seed": numbers("from 0 to 9223372036854775807", -1, 2**63, 2**64, -(2**63)),
            "lora_strength": numbers("from -4 to 4", -4.1, 5, whole=False),
            "preview_every": numbers("from 0 to 150", -1, 151),
            "count": numbers("from 1 to 16", 0, 17, -5),
            "priority": numbers("from -1000 to 1000", 1001, -1001),
            "model": texts(200),
            "scheduler": texts(200),
            "target_node": texts(200),
            "target_cluster": texts(200),
        },
    ),
    "/api/vision/gallery/zip": (
        {"filenames": ["nope.png"]},
        {
            "filenames": [
                Bad([], "[]", "from 1 to 1000"),
                Bad(["x"] * 1001, "", "1000"),
                Bad("nope.png", "'nope.png'", "list"),
                Bad([5], "5", "text"),
                Bad(["x" * 129], "characters)", "from 1 to 128"),
                Bad(["a\x00b"], "a\\x00b", "NUL"),
                Bad({}, "{}", "list"),
            ]
        },
    ),
    "/api/vision/nodes/nope/engines": (
        {"model": "x"},
        {
            "model": texts(200),
            "loras": [
                Bad("ink", "'ink'", "list"),
                Bad([{"name": "ink"}] * 10, "", "at most 9"),
                Bad([{"strength": 1}], "", "name"),
                Bad([{"name": "ink", "strength": 5}], "5", "from -4 to 4"),
                Bad([{"name": "x" * 201}], "characters)", "from 1 to 200"),
                Bad(["ink"], "'ink'", ""),
            ],
        },
    ),
    "/api/vision/models/switch/nope": ({"model": "x"}, {"model": texts(200)}),
    "/api/vision/loras/upload": (MODEL, MODEL_FIELDS),
    "/api/vision/models/nope/import": (
        {"name": "x"},
        {
            "name": MODEL_FIELDS["name"],
            "steps": numbers("from 1 to 150", 0, 151),
            "native_size": numbers("from 64 to 4096", 63, 4097),
            "precision": [Bad("int3", "'int3'", "fp16")],
            "prediction": [Bad("x", "'x'", "epsilon")],
            "keep_source": [Bad("maybe", "'maybe'", "true")],
        },
    ),
    "/api/vision/models/upload": (MODEL, MODEL_FIELDS),
    "/api/fleet/generate": (
        PICTURE,
        {
            "prompt": texts(10_000),
            "width": numbers("from 64 to 2048 in multiples of 8", 7, 2049),
            "steps": numbers("from 1 to 150", 0, 1e9),
        },
    ),
    "/api/queue/jobs": (
        JOB,
        {
            "job_type": among("image_gen, video_gen, llm_inference, transcription, training, custom"),
            "priority": among("high, normal, low"),
            "payload": [Bad("x", "'x'", "JSON object"), Bad([], "[]", "JSON object"), Bad(1, "1", "JSON object"), Bad({}, "", "required")],
            "max_retries": numbers("from 0 to 100", -1, 101, 2**40),
            "timeout_seconds": numbers("from 1 to 604800", 0, 604_801, -1, whole=False),
            "target_cluster": texts(200),
            "target_node": texts(200),
            "callback_url": [
                Bad("javascript:alert(1)", "javascript", "http"),
                Bad("file:///etc/passwd", "file", "http"),
                Bad("//x.invalid", "x.invalid", "http"),
                Bad("http://", "http://", ""),
                Bad("http://0.0.0.0/", "0.0.0.0", ""),
                Bad("http://localhost:8765/", "localhost", "this machine"),
                Bad("http://[::ffff:127.0.0.1]/", "127.0.0.1", "loopback"),
                Bad("http://127.1/", "127.1", "loopback"),
                Bad("http://2130706433/", "2130706433", "loopback"),
                Bad("http://[64:ff9b::169.254.169.254]/", "64:ff9b", "metadata"),
                Bad("http://224.0.0.1/", "224.0.0.1", "multicast"),
                Bad("http://x.invalid\\@127.0.0.1/", "x.invalid", "http"),
                Bad("http://u:p@x.invalid/", "u:p", "password"),
                Bad("x" * 2001, "characters)", "at most 2000"),
                Bad(7, "7", "text"),
            ],
        },
    ),
    "/api/keys": (
        KEY,
        {
            "name": [*texts(100)[:5], Bad("", "''", "from 1 to 100"), Bad("a/b", "'a/b'", "pattern"), Bad("\x1b[2J", "x1b", "pattern")],
            "role": among("viewer, operator, admin"),
            "expires_in_days": numbers("", 0, -1, 3651, whole=False)[:3],
        },
    ),
    "/api/build/build": (
        IMAGE,
        {
            "image_name": [
                *texts(200),
                *(
                    Bad(value, value[:20], "lower-case letters")
                    for value in ("Upper", "../x", "a//b", "a/", "-a", "a:b", "a b", "a.-b", "x;rm")
                ),
                Bad("registry.invalid:5000/x", "registry.invalid", "lower-case letters"),
                Bad("a\n", "a\\n", "lower-case letters"),
            ],
            "tag": [
                *texts(128),
                *(Bad(value, value[:20], "such as v1.0") for value in ("-v1", ".x", "a/b", "a:b", "v 1", "$(id)", "@sha256")),
            ],
            "dockerfile_path": [*texts(1_000), Bad("a\nb", "a\\nb", "control characters")],
            "context_path": [*texts(1_000), Bad("\x1b[2J", "x1b", "control characters")],
            "build_args": [
                Bad("A=b", "'A=b'", "JSON object"),
                Bad(["A=b"], "['A=b']", "JSON object"),
                Bad({"A": 5}, "5", "text"),
                Bad({"A": None}, "None", "text"),
                Bad({"A": {"b": "c"}}, "{'b': 'c'}", "text"),
                Bad({"a b": "c"}, "a b", "pattern"),
                Bad({"A=": "c"}, "A=", "pattern"),
                Bad({"": "c"}, "", "pattern"),
                Bad({"A": "x" * 5_000}, "characters)", "4096"),
                Bad({"A": "a\x00b"}, "x00", "NUL"),
                Bad({f"A{n}": "x" for n in range(101)}, "A0", "at most 100"),
            ],
            "platform": among("linux/amd64, linux/arm64"),
            "node_id": texts(100)[:5],
            "push": [Bad("maybe", "'maybe'", "true or false"), Bad([], "[]", "true or false"), Bad(7, "7", "true or false")],
            "timeout_seconds": numbers("from 1 to 86400", 0, 86_401, -1, 10**30),
        },
    ),
    "/api/build/deploy": (
        {"image": "x:v1", "service_name": "x", "cluster": "vision"},
        {
            "image": [
                *texts(700)[:5],
                *(Bad(value, value[:20], "an image such as") for value in ("X", "a b", "-x", "x:", "x@sha256:1", "../x")),
            ],
            "service_name": [*texts(63)[:5], *(Bad(value, value[:20], "pattern") for value in ("-x", "a b", "a/b", "x_", "$(id)"))],
            "cluster": texts(100),
            "replicas": numbers("from 0 to 1000", -1, 1_001, 10_000, 2**63),
            "gpus": numbers("from 0 to 64", -1, 65, 10**30),
        },
    ),
    "/api/build/build-and-deploy": (
        {**IMAGE, "service_name": "x", "cluster": "vision"},
        {
            "image_name": [Bad("Upper", "Upper", "lower-case letters")],
            "service_name": [Bad("a b", "a b", "pattern")],
            "cluster": texts(100)[:5],
            "replicas": numbers("from 0 to 1000", 10_000),
            "gpus": numbers("from 0 to 64", 65),
        },
    ),
    "/api/session": ({}, {"key": texts(500)}),
    "/api/swarm/services": (
        {"name": "web", "image": "web:1"},
        {
            "name": [*texts(63)[:5], *named("a b", "-x", "x-", SCRIPT, "a/b")],
            "image": [*texts(700)[:5], *images()],
            "replicas": numbers("from 0 to 1000", -1, 1001, 10_000),
            "mode": among("replicated, global"),
            "env": [
                Bad(["A"], "'A'", "NAME=value"),
                Bad(["A=b\nC=d"], "A=b", "one line"),
                Bad(["=x"], "'=x'", "NAME"),
                Bad("A=b", "A=b", "list"),
            ],
            "ports": [
                Bad([{"target_port": 0}], "0", "from 1 to 65535"),
                Bad([{"target_port": 70_000}], "70000", "from 1 to 65535"),
                Bad([{"target_port": 80, "published_port": 70_000}], "70000", "from 1 to 65535"),
                Bad([{"target_port": 80, "mode": "bridge"}], "'bridge'", "ingress, host"),
                Bad([{"target_port": 80, "published_port": 80}, {"target_port": 81, "published_port": 80}], "80", "twice"),
                Bad("80:80", "'80:80'", "list"),
            ],
            "constraints": [
                Bad(["node.labels.cluster"], "node.labels.cluster", "=="),
                Bad(["cluster==vision"], "cluster==vision", "node.hostname"),
                Bad(["node.labels.==x"], "node.labels.==x", "key"),
                Bad(["node.role=manager"], "node.role=manager", "=="),
                Bad([""], "''", "from 1 to 300"),
            ],
            "mounts": [
                Bad([{"source": "/var/run/docker.sock", "target": "/s"}], "docker.sock", "Docker socket"),
                Bad([{"source": "/run", "target": "/s"}], "'/run'", "Docker socket"),
                Bad([{"source": "/", "target": "/host"}], "'/'", ""),
                Bad([{"source": "/etc", "target": "/etc"}], "'/etc'", "FLEET_MOUNT_ROOTS"),
                Bad([{"source": "/mnt/../etc", "target": "/etc"}], "'/mnt/../etc'", "'..'"),
                Bad([{"source": "/mnt/x", "target": "data"}], "'data'", "absolute"),
                Bad([{"source": "../x", "target": "/data"}], "'../x'", "absolute"),
            ],
            "resources": [Bad({"gpu": -1}, "-1", "from 0 to 64"), Bad({"gpu": 1.5}, "1.5", "whole number"), Bad(1, "1", "")],
            "restart": [
                Bad({"condition": "always"}, "'always'", "none, on-failure, any"),
                Bad({"max_attempts": -1}, "-1", "from 0 to 1000"),
            ],
            "update": [
                Bad({"failure_action": "pray"}, "'pray'", "rollback, pause, continue"),
                Bad({"parallelism": 5000}, "5000", "from 0 to 1000"),
            ],
            "health": [Bad({"test": []}, "[]", "from 1 to 50"), Bad({"test": ["true"], "retries": 0}, "0", "from 1 to 100")],
        },
    ),
    "/api/swarm/services/web/scale": ({}, {"replicas": numbers("from 0 to 1000", -1, 1001)}),
    "/api/swarm/services/web/update": (
        {},
        {
            "image": images(),
            "replicas": numbers("from 0 to 1000", -1, 1001),
            "resources": [Bad({"gpu": 65}, "65", "from 0 to 64"), Bad({"cpus": 0}, "0", "from 0.01"), Bad([], "[]", "")],
        },
    ),
    "/api/swarm/nodes/agx0/labels": (
        {},
        {
            "labels": [
                Bad({"a b": "x"}, "'a b'", "pattern"),
                Bad({"rack": 5}, "5", "text"),
                Bad({"rack": "x" * 201}, "characters)", ""),
                Bad([], "[]", "JSON object"),
            ]
        },
    ),
    "/api/swarm/nodes/agx0/role": ({}, {"role": among("worker, manager")}),
    "/api/swarm/nodes/agx0/availability": ({}, {"availability": among("active, pause, drain")}),
    "/api/swarm/join-remote": (
        {"node_ip": "192.0.2.10", "credential_id": "x"},
        {
            "node_ip": [Bad("agx0", "'agx0'", "IP address"), Bad("192.0.2", "'192.0.2'", "IP address"), Bad(5, "5", "text")],
            "username": [Bad("-o", "'-o'", "pattern"), Bad("", "''", "from 1 to 64")],
            "cluster": [Bad("a/b", "'a/b'", "pattern"), Bad("x" * 101, "characters)", "at most 100")],
            "role": among("worker, manager"),
            "ssh_port": [Bad(0, "0", "from 1 to 65535"), Bad(70_000, "70000", "from 1 to 65535")],
        },
    ),
    "/api/backups": (
        {"outputs": False},
        {"outputs": [Bad("maybe", "'maybe'", "true or false"), Bad([], "[]", "true or false"), Bad(7, "7", "true or false")]},
    ),
    "/api/clusters": (
        {"name": "vision", "node_ids": ["agx0"]},
        {
            "name": [
                Bad("", "''", "pattern"),
                Bad("a/b", "'a/b'", "pattern"),
                Bad("x" * 101, "characters)", "at most 100"),
                Bad(5, "5", "text"),
            ],
            "cluster_type": among("swarm"),
            "node_ids": [Bad([], "[]", "from 1 to 500"), Bad("agx0", "'agx0'", "list"), Bad([""], "''", "from 1 to")],
            "manager_node_id": texts(200)[:4],
        },
    ),
    "/api/fleet/deploy": (
        {"node_id": "agx0", "image": "web:1", "name": "web"},
        {
            "node_id": texts(200)[:4],
            "image": images(),
            "name": named("x", "a b", "-x", "/x", SCRIPT),
            "port": numbers("from 1 to 65535", 0, 70_000),
            "gpus": [Bad("yes please", "'yes please'", "true or false"), Bad({}, "{}", "true or false")],
            "env": [Bad(["A"], "'A'", "NAME=value"), Bad([5], "5", "text")],
            "mounts": [
                Bad(["/var/run/docker.sock:/s"], "docker.sock", "Docker socket"),
                Bad(["/etc:/etc"], "'/etc'", "FLEET_MOUNT_ROOTS"),
                Bad(["/mnt"], "'/mnt'", "source:target"),
                Bad(["/mnt:/x:rx"], "'/mnt:/x:rx'", "source:target"),
            ],
        },
    ),
    "/api/agents/tokens": ({}, {"node_id": [Bad("A B", "'A B'", "pattern"), Bad("../x", "'../x'", "pattern"), Bad(5, "5", "text")]}),
}
