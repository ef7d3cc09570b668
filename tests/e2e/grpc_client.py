"""A gRPC service and its clients, as an application has them.

grpc_client.py serve
    Serves, prints the port, and ends with its standard input.
grpc_client.py call ADDRESS [retry]
    Reads calls from standard input, one a line: JSON, a list of [name, value] pairs of metadata. Prints what each came to as a line of
    JSON: code, details, the response, and all metadata that came back, bytes in hexadecimal digits. With "retry" the client makes up to three
    attempts of its own when a resource is exhausted, soon after each other unless the server says otherwise.

The method takes and returns bytes, so that no generated code is needed.
"""

import json
import sys
from concurrent import futures

import grpc

METHOD = "/allowance.test.Echo/Say"


def serve():
    def say(request, context):
        return b"you said " + request

    handler = grpc.method_handlers_generic_handler("allowance.test.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
            },
        }
    ]
}


def call(address, retry):
    options = [("grpc.service_config", json.dumps(RETRIES))] if retry else []
    with grpc.insecure_channel(address, options) as channel:
        say = channel.unary_unary(METHOD)
        for line in sys.stdin:
            metadata = [(name, value) for name, value in json.loads(line)]
            try:
                response, finished = say.with_call(b"hello", metadata=metadata, timeout=10)
                response = response.decode()
            except grpc.RpcError as error:
                response, finished = None, error
            back = list(finished.initial_metadata() or []) + list(finished.trailing_metadata() or [])
            code, details = finished.code(), finished.details()
            answer = {"code": code.value[0], "name": code.name, "details": details, "response": response}
            text = lambda value: value if isinstance(value, str) else value.hex()
            answer["metadata"] = [[entry.key, text(entry.value)] for entry in back]
            print(json.dumps(answer), flush=True)


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2], sys.argv[3:] == ["retry"])
