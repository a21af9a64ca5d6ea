"""What the OpenAPI document says of jobs, and of the server itself."""

from app.store.index import StatsResponse
from app.web import schemas
from app.web.operations import Operation

# OpenAPI 3.1 does not say whether the schema of a stream is that of its text or of each event.
_EVENTS = {
    "anyOf": [
        {"type": "string", "description": "The stream, as text."},
        {
            "type": "object",
            "title": "JobEvent",
            "description": "One event of the stream.",
            "properties": {
                "event": {"enum": ["progress", "end"]},
                "data": {"type": "string", "description": "The job as JSON; empty at the end."},
            },
        },
    ]
}

JOB_OPERATIONS = [
    Operation(
        "get",
        "/api/jobs",
        "List jobs, newest first.",
        name="list_jobs",
        tag="Jobs",
        answer=schemas.JobsResponse,
        failures=(503,),
    ),
    Operation(
        "get",
        "/api/jobs/{id}",
        "Return job progress.",
        name="show_job",
        tag="Jobs",
        answer=schemas.JobDocument,
        failures=(404, 503),
    ),
    Operation(
        "delete",
        "/api/jobs/{id}",
        "Cancel and delete a job. The uploads that only it kept go with it; images that it indexed "
        "stay.",
        name="delete_job",
        tag="Jobs",
        status=204,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "get",
        "/api/jobs/{id}/items",
        "List the items of a job, all or those in one state.",
        name="list_job_items",
        tag="Jobs",
        answer=schemas.JobItemsResponse,
        query=schemas.JobItemsRequest,
        failures=(404, 422, 503),
        asks={"state": "failed"},
    ),
    Operation(
        "get",
        "/api/jobs/{id}/events",
        "Stream job progress as server-sent events. There is a `progress` with the whole job at "
        "every change, and then an `end`.",
        name="follow_job",
        tag="Jobs",
        answer=_EVENTS,
        answer_type="text/event-stream",
        failures=(404, 429, 503),
    ),
    Operation(
        "post",
        "/api/jobs/{id}/retry",
        "Retry failed and cancelled items.",
        name="retry_job",
        tag="Jobs",
        answer=schemas.JobDocument,
        failures=(404, 503),
        writes=True,
    ),
    Operation(
        "post",
        "/api/jobs/{id}/cancel",
        "Cancel pending items.",
        name="cancel_job",
        tag="Jobs",
        answer=schemas.JobDocument,
        failures=(404, 503),
        writes=True,
    ),
]

SERVER_OPERATIONS = [
    Operation(
        "get",
        "/api/stats",
        "Return the size of the index and the encoder in use.",
        name="show_stats",
        tag="Server",
        answer=StatsResponse,
        failures=(503,),
    ),
    Operation(
        "get",
        "/healthz",
        "Check that the process is running.",
        name="check_health",
        tag="Server",
        answer=schemas.HealthResponse,
    ),
    Operation(
        "get",
        "/readyz",
        "Check that the database and the storage of uploads respond and can be written.",
        name="check_readiness",
        tag="Server",
        answer=schemas.ReadyResponse,
        failures=(503,),
    ),
    Operation(
        "get",
        "/metrics",
        "Return metrics in Prometheus' format. They are for clients on the server's own machine, "
        "and for keys with the scope `admin`.",
        name="show_metrics",
        tag="Server",
        answer={"type": "string"},
        answer_type="text/plain",
        failures=(403,),
    ),
]
