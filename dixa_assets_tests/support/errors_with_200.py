"""Bodies with status 200 that report an error."""

from dixa_assets_tests.support.simulator import Json

# An answer with one of these has no rows, and is not an empty answer.
BODIES: list[Json] = [
    {"message": "Task timed out after 29.00 seconds"},
    {"Message": "Rate exceeded"},
    {"error": "internal"},
    {"error": {"code": 500, "reason": "internal"}},
    {"errors": [{"message": "no"}]},
    {"success": False},
    {"ok": False, "meta": {}},
    {"status": "error"},
    {"status": 500},
    {"statusCode": 502, "body": ""},
    {"errorMessage": "Task timed out", "errorType": "Sandbox.Timedout"},
    {"fault": {"faultstring": "no route"}},
    {"type": "about:blank", "title": "Bad Gateway", "status": 502},
    {"detail": "no"},
    {"records": []},
    {"rows": [], "meta": {"next": None}},
    {"data": None, "message": "Internal server error"},
    {"data": None, "total": 0},
    {"data": [], "message": "Internal server error"},
    {"data": [], "error": "timeout"},
    {"data": [], "errors": ["timeout"], "meta": {}},
    {"data": [], "success": False},
    {"data": [], "success": "false"},
    {"data": [], "status": "failed"},
    {"data": [], "statusCode": 504},
    {"data": [], "code": "500"},
    {"data": [], "meta": {"error": "timeout"}},
    {"data": [], "meta": {"errors": [{}]}},
    {"data": [], "errorMessage": "timeout"},
    {"meta": {"errors": ["timeout"]}},
    {"meta": {"next": None}, "message": "timeout"},
]
