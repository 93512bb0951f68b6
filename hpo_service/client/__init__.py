"""For scripts and notebooks: studies, trials, workers and events from a server or straight from a database.

`Client` is what people use; it asks a `Transport`, of which there are two: `http` and `database`. Both answer with the
documents that `/v1` answers with.
"""

from hpo_service.client.client import Client
from hpo_service.client.connection import connect
from hpo_service.client.records import Record, Records

__all__ = ["Client", "Record", "Records", "connect"]
