"""Every table, in one metadata: what migrations are compared with."""

from __future__ import annotations

from fleet_api.access.models import ApiKey, AuditEntry, BrowserSession, EnrolmentToken
from fleet_api.jobs.models import Attempt, IdempotencyKey, JobTable, JobTally
from fleet_api.kit.table import Table
from fleet_api.nodes.models import Node
from fleet_api.outputs.models import Output

TABLES = (ApiKey, Attempt, AuditEntry, BrowserSession, EnrolmentToken, IdempotencyKey, JobTable, JobTally, Node, Output)
metadata = Table.metadata
