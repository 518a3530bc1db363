"""What an operator sees: metrics, log, request numbers.

metrics: CONTENT_TYPE_LATEST, Metrics
tracing: REQUEST_ID, request_id
Within the room: logs
"""
