"""Every table, in one metadata: what migrations are compared with."""

from __future__ import annotations

from fleet_api.access.host_keys.models import HostKey
from fleet_api.access.models import ApiKey, AuditEntry, BrowserSession, EnrolmentToken
from fleet_api.access.vault.models import Credential
from fleet_api.callbacks.models import Delivery, WebhookSecret
from fleet_api.idempotency.models import IdempotencyKey
from fleet_api.jobs.models import Attempt, JobTable, JobTally
from fleet_api.kit.table import Table
from fleet_api.models.models import StoredModel
from fleet_api.nodes.models import Node
from fleet_api.operations.models import NodeLock, Operation, OperationEvent, ScheduledRun
from fleet_api.outputs.models import Output
from fleet_api.services.clusters.models import Cluster
from fleet_api.services.swarm.models import Swarm

TABLES = (
    ApiKey, Attempt, AuditEntry, BrowserSession, Cluster, Credential, Delivery, EnrolmentToken, HostKey, IdempotencyKey, JobTable, JobTally,
    Node, NodeLock, Operation, OperationEvent, Output, ScheduledRun, StoredModel, Swarm, WebhookSecret,
)  # fmt: skip
metadata = Table.metadata
