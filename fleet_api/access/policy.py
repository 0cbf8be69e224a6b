"""Which role each row of the API wants, in one table: the application does not start with a row that is not in it."""

from __future__ import annotations

from typing import Literal

from fleet_api.access.callers import Role

Wanted = Role | Literal["agent"]

AGENT: Literal["agent"] = "agent"
ANYONE, VIEWER, OPERATOR, ADMIN = Role.ANYONE, Role.VIEWER, Role.OPERATOR, Role.ADMIN

ROLES: dict[str, Wanted] = {
    "GET /": ANYONE,  # the sign-in page for who has not signed in
    "GET /dashboard/{version}/{path:path}": ANYONE,
    "GET /docs": ANYONE,
    "GET /docs/oauth2-redirect": ANYONE,
    "GET /openapi.json": ANYONE,
    "GET /health": ANYONE,
    "GET /metrics": VIEWER,
    "GET /api/status": VIEWER,
    # fleet
    "POST /api/fleet/connect": ANYONE,  # the key may be in the body
    "GET /api/fleet/connect": VIEWER,
    "GET /api/fleet/status": VIEWER,
    "GET /api/fleet/capabilities": VIEWER,
    "POST /api/fleet/generate": OPERATOR,
    "GET /api/fleet/generate/status": VIEWER,
    # nodes
    "GET /api/nodes": VIEWER,
    "GET /api/nodes/heartbeats": VIEWER,
    "GET /api/nodes/{node_id}": VIEWER,
    "POST /api/nodes": ADMIN,
    "GET /api/nodes/jetpack": VIEWER,
    "GET /api/nodes/{node_id}/jetpack": VIEWER,
    "PATCH /api/nodes/{node_id}": ADMIN,
    "DELETE /api/nodes/{node_id}": ADMIN,
    "POST /api/nodes/{node_id}/retire": ADMIN,
    # vision
    "GET /api/vision/status": VIEWER,
    "GET /api/vision/nodes": VIEWER,
    "POST /api/vision/generate": OPERATOR,
    "GET /api/vision/jobs": VIEWER,
    "POST /api/vision/jobs/stop-all": OPERATOR,
    "GET /api/vision/jobs/{job_id}": VIEWER,
    "POST /api/vision/jobs/{job_id}/cancel": OPERATOR,
    "GET /api/vision/queue": VIEWER,
    "GET /api/vision/models/available": VIEWER,
    "GET /api/vision/models/loaded": VIEWER,
    "POST /api/vision/models/switch/{node_id}": OPERATOR,
    "GET /api/vision/loras": VIEWER,
    "DELETE /api/vision/models/{name}": ADMIN,
    "DELETE /api/vision/loras/{name}": ADMIN,
    "POST /api/vision/models/upload": ADMIN,
    "POST /api/vision/loras/upload": ADMIN,
    "POST /api/vision/models/scan": ADMIN,
    "POST /api/vision/models/{name}/import": ADMIN,
    "GET /api/vision/engines": VIEWER,
    "DELETE /api/vision/engines/{key}": ADMIN,
    "POST /api/vision/nodes/{node_id}/engines": ADMIN,
    "GET /api/vision/uploads/{upload_id}": VIEWER,
    "PATCH /api/vision/uploads/{upload_id}": ADMIN,
    "DELETE /api/vision/uploads/{upload_id}": ADMIN,
    "GET /api/vision/schedulers": VIEWER,
    "GET /api/vision/aspect-ratios": VIEWER,
    "GET /api/vision/gallery": VIEWER,
    "GET /api/vision/outputs": VIEWER,
    "POST /api/vision/outputs/clear": ADMIN,
    "GET /api/vision/outputs/{filename}": VIEWER,
    "DELETE /api/vision/outputs/{filename}": OPERATOR,
    "GET /api/vision/gallery/{filename}": VIEWER,
    "PUT /api/vision/gallery/{filename}/star": OPERATOR,
    "DELETE /api/vision/gallery/{filename}/star": OPERATOR,
    "POST /api/vision/gallery/{filename}/restore": OPERATOR,
    "POST /api/vision/gallery/zip": VIEWER,
    # outputs
    "GET /api/outputs/stats": VIEWER,
    "GET /api/outputs/list": VIEWER,
    "POST /api/outputs/sync": OPERATOR,
    "POST /api/outputs/cleanup": ADMIN,
    "POST /api/outputs/move-all-to-s3": ADMIN,
    # queue
    "POST /api/queue/jobs": OPERATOR,
    "POST /api/queue/jobs/batch": OPERATOR,
    "GET /api/queue/jobs": VIEWER,
    "GET /api/queue/stats": VIEWER,
    "GET /api/queue/jobs/{job_id}": VIEWER,
    "GET /api/queue/jobs/{job_id}/events": VIEWER,
    "GET /api/queue/jobs/{job_id}/preview": VIEWER,
    "DELETE /api/queue/jobs/{job_id}": OPERATOR,
    "POST /api/queue/jobs/{job_id}/retry": OPERATOR,
    "GET /api/queue/jobs/{job_id}/deliveries": VIEWER,
    "POST /api/queue/jobs/{job_id}/deliveries/{delivery_id}/replay": OPERATOR,
    # install queue
    "POST /api/install-queue/queue": ADMIN,
    "GET /api/install-queue/queue": VIEWER,
    "DELETE /api/install-queue/queue": ADMIN,
    "POST /api/install-queue/queue/retry-failed": ADMIN,
    "GET /api/install-queue/queue/{job_id}": VIEWER,
    "POST /api/install-queue/queue/{job_id}/retry": ADMIN,
    "GET /api/network/scan": OPERATOR,
    "GET /api/network/scan-status": VIEWER,
    "POST /api/network/join": ADMIN,
    "POST /api/network/auto-join-all": ADMIN,
    # build
    "GET /api/build/registry/images": VIEWER,
    "GET /api/build/catalogue": VIEWER,
    "POST /api/build/build": ADMIN,
    "POST /api/build/deploy": ADMIN,
    "POST /api/build/build-and-deploy": ADMIN,
    # operations
    "GET /api/operations": VIEWER,
    "POST /api/operations": ADMIN,
    "GET /api/operations/{operation_id}": VIEWER,
    "GET /api/operations/{operation_id}/events": VIEWER,
    "POST /api/operations/{operation_id}/cancel": OPERATOR,
    "POST /api/operations/{operation_id}/retry": ADMIN,
    "GET /api/schedule": VIEWER,
    "POST /api/schedule/{name}/run": ADMIN,
    # backups
    "GET /api/backups": VIEWER,
    "POST /api/backups": ADMIN,
    "DELETE /api/backups/restore": ADMIN,
    "POST /api/backups/{backup_id}/verify": ADMIN,
    "POST /api/backups/{backup_id}/restore": ADMIN,
    # commands
    "POST /api/ssh/exec-node": ADMIN,
    "POST /api/ssh/exec": ADMIN,
    "POST /api/fleet/exec/{node_id}": ADMIN,
    "POST /api/nodes/{node_id}/accept-host-key": ADMIN,
    # vault
    "GET /api/vault": ADMIN,
    "POST /api/vault": ADMIN,
    "PATCH /api/vault/{cred_id}": ADMIN,
    "DELETE /api/vault/{cred_id}": ADMIN,
    # access
    "GET /api/keys": ADMIN,
    "POST /api/keys": ADMIN,
    "DELETE /api/keys/{key_id}": ADMIN,
    "POST /api/session": ANYONE,
    "GET /api/session": VIEWER,
    "DELETE /api/session": ANYONE,
    "GET /api/audit": ADMIN,
    # agents
    "GET /api/agents/ca": ANYONE,
    "POST /api/agents/tokens": ADMIN,
    "POST /api/agents/enrol": ANYONE,  # the token is the proof
    "POST /api/agents/lease": AGENT,
    "POST /api/agents/beat": AGENT,
    "PUT /api/agents/uploads/{job_id}/{attempt}": AGENT,
    "PUT /api/agents/previews/{job_id}/{attempt}": AGENT,
    "POST /api/agents/complete": AGENT,
    "POST /api/agents/fail": AGENT,
    "POST /api/agents/models/source": AGENT,
    "GET /api/agents/models/{kind}/{name}/{file}": AGENT,
    "POST /api/agents/engines": AGENT,
    "PUT /api/agents/engines/{key}": AGENT,
    "GET /api/agents/engines/{key}": AGENT,
    # swarm
    "GET /api/swarm/status": VIEWER,
    "GET /api/swarm/nodes": VIEWER,
    "GET /api/swarm/join-token": ADMIN,
    "POST /api/swarm/join-token/rotate": ADMIN,
    "POST /api/swarm/join-remote": ADMIN,
    "POST /api/swarm/nodes/{node_id}/labels": ADMIN,
    "POST /api/swarm/nodes/{node_id}/role": ADMIN,
    "POST /api/swarm/nodes/{node_id}/availability": ADMIN,
    "GET /api/swarm/services": VIEWER,
    "POST /api/swarm/services": ADMIN,
    "GET /api/swarm/services/{service_id}": VIEWER,
    "POST /api/swarm/services/{service_id}/scale": OPERATOR,
    "POST /api/swarm/services/{service_id}/update": ADMIN,
    "POST /api/swarm/services/{service_id}/rollback": ADMIN,
    "GET /api/swarm/services/{service_id}/logs": VIEWER,
    "DELETE /api/swarm/services/{service_id}": ADMIN,
    "GET /api/swarm/containers": VIEWER,
    "POST /api/swarm/containers/{container_id}/restart": OPERATOR,
    "POST /api/swarm/containers/{container_id}/stop": OPERATOR,
    "POST /api/swarm/containers/{container_id}/start": OPERATOR,
    "GET /api/swarm/containers/{container_id}/logs": VIEWER,
    "POST /api/fleet/deploy": ADMIN,
    "DELETE /api/fleet/deploy/{node_id}/{container_name}": ADMIN,
    "GET /api/fleet/logs/{node_id}/{container_name}": VIEWER,
    # clusters
    "GET /api/clusters": VIEWER,
    "POST /api/clusters": ADMIN,
    "GET /api/clusters/{cluster_id}/status": VIEWER,
    "POST /api/clusters/{cluster_id}/nodes/{node_id}": ADMIN,
    "DELETE /api/clusters/{cluster_id}/nodes/{node_id}": ADMIN,
    "DELETE /api/clusters/{cluster_id}": ADMIN,
    # websocket
    "WS /ws": VIEWER,
    "WS /ws/metrics": VIEWER,
    "WS /ws/logs/{node_id}": VIEWER,
}

CREATES = frozenset(
    {
        "POST /api/session",
        "POST /api/fleet/generate",
        "POST /api/vision/generate",
        "POST /api/vision/models/upload",
        "POST /api/vision/loras/upload",
        "POST /api/vision/models/{name}/import",
        "POST /api/vision/nodes/{node_id}/engines",
        "POST /api/queue/jobs",
        "POST /api/queue/jobs/batch",
        "POST /api/queue/jobs/{job_id}/retry",
        "POST /api/queue/jobs/{job_id}/deliveries/{delivery_id}/replay",
        "POST /api/install-queue/queue",
        "POST /api/install-queue/queue/retry-failed",
        "POST /api/install-queue/queue/{job_id}/retry",
        "POST /api/network/join",
        "POST /api/network/auto-join-all",
        "POST /api/build/build",
        "POST /api/build/deploy",
        "POST /api/build/build-and-deploy",
        "POST /api/nodes",
        "POST /api/nodes/{node_id}/retire",
        "POST /api/operations",
        "POST /api/operations/{operation_id}/retry",
        "POST /api/backups",
        "POST /api/backups/{backup_id}/verify",
        "POST /api/backups/{backup_id}/restore",
        "POST /api/vault",
        "POST /api/keys",
        "POST /api/agents/tokens",
        "POST /api/swarm/join-remote",
        "POST /api/swarm/services",
        "POST /api/swarm/services/{service_id}/update",
        "POST /api/swarm/services/{service_id}/rollback",
        "POST /api/fleet/deploy",
        "POST /api/clusters",
        "POST /api/clusters/{cluster_id}/nodes/{node_id}",
    }
)
"""Rows that make something new: a key may call them only so often."""

UPLOADS = frozenset({"POST /api/vision/models/upload", "POST /api/vision/loras/upload"})
"""Rows whose body may be a whole model, which is not held in memory to compare it; a name that is in use is refused there."""

IDEMPOTENT = CREATES - {"POST /api/session"} - UPLOADS
"""Rows that take an ``Idempotency-Key``. A sign-in makes nothing that a second one would double, and its answer is all secret."""

SHOWN_ONCE = frozenset({"POST /api/keys", "POST /api/agents/tokens"})
"""Rows whose answer shows a secret, which is never kept: a repeat is refused."""

STREAMED = frozenset({"POST /api/fleet/generate"})
"""Rows whose answer is a file, which is given again from where it lies."""

EXECUTES = frozenset({"POST /api/ssh/exec-node", "POST /api/ssh/exec", "POST /api/fleet/exec/{node_id}"})
"""Rows that run a command on nodes: a key may call them only so often, beside what it creates."""
