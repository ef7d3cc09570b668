"""An upstream that speaks like LLM providers and answers with what it was told: for trying Allowance, and for its tests.

    upstream.py --port 18080       serves on 127.0.0.1 until it is interrupted
    upstream.py                    serves on a free port, prints it, and ends with its standard input

It needs nothing but Python 3. It speaks OpenAI's chat completions, responses, embeddings and models (on any prefix, so also as Azure and as
Gemini's compatible endpoint), Mistral's chat completions (models named *stral*), Anthropic's messages, and Gemini's generateContent and
streamGenerateContent; JSON and streams. Any key is good.

By default a prompt's tokens are its words, and so are the answer's, which is "You said:" and the last text of the prompt, cut at the
request's bound on output tokens. Request headers choose otherwise:

    x-usage-input, x-usage-output          the tokens that it reports
    x-usage-cached, x-usage-reasoning      of which came from a cache, and were thought
    x-cut: 7          writes 7 bytes of the body at a time
    x-delay: 20       waits 20 ms before each of these writes, or before each event of a stream
    x-stop: 100       closes the connection after 100 bytes of the body
    x-same: 1         says the same number and time each time
    x-gzip: 1         compresses the body, if accept-encoding allows it
    x-busy: 2         answers 429 twice first; x-busy-id says to which requests that number belongs, x-retry-after what they are told

GET /-/seen lists the requests so far: when (in milliseconds), path, status.
"""

import argparse
import array
import base64
import http.server
import itertools
import json
import sys
import threading
import time
import urllib.parse
import zlib


class Usage:
    """The tokens of one exchange."""

    def __init__(self, prompt, bound, headers):
        def told(name, default):
            return int(headers.get(f"x-usage-{name}", default))

        self.words = ["You", "said:"] + (prompt.split("\n")[-1].split() or ["nothing"])
        self.full = bound is None or bound >= len(self.words)
        if not self.full:
            self.words = self.words[:bound]
        self.input = told("input", len(prompt.split()))
        self.output = told("output", len(self.words))
        self.cached = told("cached", 0)
        self.reasoning = told("reasoning", 0)

    @property
    def text(self):
        return " ".join(self.words)

    def pieces(self):
        """The text as it is streamed."""
        return [word if number == 0 else " " + word for number, word in enumerate(self.words)]

    def so_far(self, number):
        """The output tokens up to a piece; the last one completes them."""
        return self.output * number // max(len(self.words), 1)


class Api:
    """One provider's way to say things: `answer` is the whole, `events` its stream as bytes."""

    stream_type = "text/event-stream; charset=utf-8"
    bounds = ("max_completion_tokens", "max_tokens")

    def __init__(self, path, body, headers):
        self.path, self.body = path, body
        self.model = body.get("model") or "unknown"
        self.number, self.created = (1, 1700000000) if "x-same" in headers else (next(numbers), int(time.time()))
        bound = next((body[name] for name in self.bounds if body.get(name) is not None), None)
        self.usage = Usage("\n".join(self.texts()), bound, headers)

    def streams(self):
        return self.body.get("stream") is True

    def texts(self):
        return texts(self.body.get("messages"))

    def quota(self):
        """The fields that tell of the provider's own quota."""
        return {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "6ms",
            "x-ratelimit-limit-tokens": "2000000",
            "x-ratelimit-remaining-tokens": "1999984",
            "x-ratelimit-reset-tokens": "0s",
        }

    def busy(self):
        error = {"message": "Rate limit reached for this upstream.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
        return {"error": error}

    def refused(self):
        """What is wrong with the request, if anything."""
        return None


class Chat(Api):
    """OpenAI's chat completions, the ones of Azure included."""

    def head(self, kind):
        identity = {"id": f"chatcmpl-{self.number:024}", "object": kind, "created": self.created, "model": self.model}
        return {**identity, "service_tier": "default", "system_fingerprint": "fp_upstream"}

    def tokens(self):
        usage, outputs = self.usage, self.usage.output * self.choices()
        total = {"prompt_tokens": usage.input, "completion_tokens": outputs, "total_tokens": usage.input + outputs}
        prompt = {"cached_tokens": usage.cached, "audio_tokens": 0}
        completion = {"reasoning_tokens": usage.reasoning, "audio_tokens": 0}
        completion.update(accepted_prediction_tokens=0, rejected_prediction_tokens=0)
        return {**total, "prompt_tokens_details": prompt, "completion_tokens_details": completion}

    def choices(self):
        return self.body.get("n") or 1

    def reason(self):
        return "stop" if self.usage.full else "length"

    def answer(self):
        message = {"role": "assistant", "content": self.usage.text, "refusal": None, "annotations": []}
        choice = {"message": message, "logprobs": None, "finish_reason": self.reason()}
        choices = [{"index": index, **choice} for index in range(self.choices())]
        return {**self.head("chat.completion"), "choices": choices, "usage": self.tokens()}

    def events(self):
        counted = (self.body.get("stream_options") or {}).get("include_usage") is True

        def chunk(choices, usage=None):
            return event({**self.head("chat.completion.chunk"), "choices": choices, **({"usage": usage} if counted else {})})

        def choice(delta, reason=None):
            return [
                {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason} for index in range(self.choices())
            ]

        yield chunk(choice({"role": "assistant", "content": "", "refusal": None}))
        for piece in self.usage.pieces():
            yield chunk(choice({"content": piece}))
        yield chunk(choice({}, self.reason()))
        if counted:
            yield chunk([], self.tokens())
        yield b"data: [DONE]\n\n"


class Mistral(Chat):
    """Mistral's chat completions: usage comes with the last chunk, unasked."""

    def quota(self):
        return {
            "x-ratelimit-limit-req-minute": "300",
            "x-ratelimit-remaining-req-minute": "299",
            "x-ratelimit-limit-tokens-minute": "500000",
            "x-ratelimit-remaining-tokens-minute": "499984",
            "x-ratelimit-tokens-query-cost": str(self.usage.input + self.usage.output),
        }

    def busy(self):
        error = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "param": None}
        return {**error, "code": "1300", "raw_status_code": 429}

    def refused(self):
        if "stream_options" not in self.body:
            return None
        where = {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
        return 422, {"detail": [{**where, "input": self.body["stream_options"]}]}

    def head(self, kind):
        return {"id": f"{self.number:032x}", "object": kind, "created": self.created, "model": self.model}

    def tokens(self):
        outputs = self.usage.output * self.choices()
        total = self.usage.input + outputs
        return {"prompt_tokens": self.usage.input, "completion_tokens": outputs, "total_tokens": total}

    def answer(self):
        message = {"role": "assistant", "content": self.usage.text, "tool_calls": None}
        choices = [{"index": index, "message": message, "finish_reason": self.reason()} for index in range(self.choices())]
        return {**self.head("chat.completion"), "choices": choices, "usage": self.tokens()}

    def events(self):
        def chunk(delta, reason=None, **usage):
            choices = [{"index": index, "delta": delta, "finish_reason": reason} for index in range(self.choices())]
            return event({**self.head("chat.completion.chunk"), "choices": choices, **usage})

        pieces = self.usage.pieces()
        yield chunk({"role": "assistant", "content": ""})
        for piece in pieces[:-1]:
            yield chunk({"content": piece})
        yield chunk({"content": "".join(pieces[-1:])}, self.reason(), usage=self.tokens())
        yield b"data: [DONE]\n\n"


class Responses(Api):
    """OpenAI's responses."""

    bounds = ("max_output_tokens",)

    def texts(self):
        given = self.body.get("input")
        return [given] if isinstance(given, str) else texts(given)

    def item(self, text, status):
        content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}] if status != "in_progress" else []
        identity = {"id": f"msg_{self.number:024}", "type": "message", "status": status, "role": "assistant"}
        return {**identity, "content": content}

    def response(self, status):
        usage, done = self.usage, status != "in_progress"
        tokens = {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning},
            "total_tokens": usage.input + usage.output,
        }
        return {
            "id": f"resp_{self.number:024}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": self.body.get("instructions"),
            "max_output_tokens": self.body.get("max_output_tokens"),
            "metadata": {},
            "model": self.model,
            "output": [self.item(usage.text, status)] if done else [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": True,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": tokens if done else None,
            "user": None,
        }

    def status(self):
        return "completed" if self.usage.full else "incomplete"

    def answer(self):
        return self.response(self.status())

    def events(self):
        order = itertools.count()

        def named(name, **members):
            return event({"type": name, "sequence_number": next(order), **members}, name)

        text, status = self.usage.text, self.status()
        place = {"item_id": f"msg_{self.number:024}", "output_index": 0, "content_index": 0}
        yield named("response.created", response=self.response("in_progress"))
        yield named("response.in_progress", response=self.response("in_progress"))
        yield named("response.output_item.added", output_index=0, item=self.item("", "in_progress"))
        part = {"type": "output_text", "annotations": [], "logprobs": []}
        yield named("response.content_part.added", **place, part={**part, "text": ""})
        for piece in self.usage.pieces():
            yield named("response.output_text.delta", **place, delta=piece, logprobs=[])
        yield named("response.output_text.done", **place, text=text, logprobs=[])
        yield named("response.content_part.done", **place, part={**part, "text": text})
        yield named("response.output_item.done", output_index=0, item=self.item(text, status))
        yield named(f"response.{status}", response=self.response(status))


class Embeddings(Api):
    """OpenAI's embeddings; no output, so no stream."""

    def texts(self):
        given = self.body.get("input")
        return [given] if isinstance(given, str) else [text for text in given or [] if isinstance(text, str)]

    def streams(self):
        return False

    def answer(self):
        floats = [0.25, -0.5, 0.125]
        encoded = self.body.get("encoding_format") == "base64"
        vector = base64.b64encode(array.array("f", floats).tobytes()).decode() if encoded else floats
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(self.texts()))]
        tokens = {"prompt_tokens": self.usage.input, "total_tokens": self.usage.input}
        return {"object": "list", "data": data, "model": self.model, "usage": tokens}


class Messages(Api):
    """Anthropic's messages: what came from a cache is not in input_tokens."""

    bounds = ("max_tokens",)

    def texts(self):
        system = self.body.get("system")
        return [system] * isinstance(system, str) + texts(self.body.get("messages"))

    def quota(self):
        fields = {}
        for unit, limit in (("requests", 4000), ("input-tokens", 400000), ("output-tokens", 80000), ("tokens", 480000)):
            fields[f"anthropic-ratelimit-{unit}-limit"] = fields[f"anthropic-ratelimit-{unit}-remaining"] = str(limit)
            fields[f"anthropic-ratelimit-{unit}-reset"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {**fields, "request-id": f"req_{self.number:024}"}

    def busy(self):
        error = {"type": "rate_limit_error", "message": "This request would exceed this upstream's rate limit."}
        return {"type": "error", "error": error, "request_id": f"req_{self.number:024}"}

    def tokens(self, output):
        usage = self.usage
        cache = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
        tokens = {"input_tokens": usage.input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": usage.cached}
        return {**tokens, "cache_creation": cache, "output_tokens": output, "service_tier": "standard"}

    def message(self, content, reason, output):
        identity = {"id": f"msg_{self.number:024}", "type": "message", "role": "assistant", "model": self.model}
        return {**identity, "content": content, "stop_reason": reason, "stop_sequence": None, "usage": self.tokens(output)}

    def reason(self):
        return "end_turn" if self.usage.full else "max_tokens"

    def answer(self):
        return self.message([{"type": "text", "text": self.usage.text}], self.reason(), self.usage.output)

    def events(self):
        def named(name, **members):
            return event({"type": name, **members}, name)

        yield named("message_start", message=self.message([], None, self.usage.so_far(1)))
        yield named("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield named("ping")
        for piece in self.usage.pieces():
            yield named("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        yield named("content_block_stop", index=0)
        end = {"stop_reason": self.reason(), "stop_sequence": None}
        yield named("message_delta", delta=end, usage={"output_tokens": self.usage.output})
        yield named("message_stop")


class Gemini(Api):
    """Gemini's own API: what was thought is not in candidatesTokenCount."""

    def __init__(self, path, body, headers):
        bound = (body.get("generationConfig") or {}).get("maxOutputTokens")
        model, _, self.method = path.partition("?")[0].rpartition("/")[2].partition(":")
        super().__init__(path, {**body, "model": model, "max_tokens": bound}, headers)
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
        self.sse = query.get("alt") == ["sse"]
        self.stream_type = "text/event-stream" if self.sse else "application/json; charset=UTF-8"

    def streams(self):
        return self.method == "streamGenerateContent"

    def texts(self):
        contents = self.body.get("contents") or []
        return [part["text"] for content in contents for part in content.get("parts") or [] if "text" in part]

    def quota(self):
        return {}

    def busy(self):
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
        error = {"code": 429, "message": "You exceeded this upstream's quota.", "status": "RESOURCE_EXHAUSTED", "details": [retry]}
        return [{"error": error}] if self.streams() and not self.sse else {"error": error}

    def part(self, text, output, reason=None):
        usage = self.usage
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if reason:
            candidate["finishReason"] = reason
        tokens = {"promptTokenCount": usage.input, "candidatesTokenCount": output}
        tokens["totalTokenCount"] = usage.input + output + usage.reasoning
        if usage.cached:
            tokens["cachedContentTokenCount"] = usage.cached
        if usage.reasoning:
            tokens["thoughtsTokenCount"] = usage.reasoning
        tokens["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.input}]
        identity = {"modelVersion": self.model, "responseId": f"{self.number:020}"}
        return {"candidates": [candidate], "usageMetadata": tokens, **identity}

    def reason(self):
        return "STOP" if self.usage.full else "MAX_TOKENS"

    def answer(self):
        return self.part(self.usage.text, self.usage.output, self.reason())

    def events(self):
        pieces = self.usage.pieces() or [""]
        for number, piece in enumerate(pieces, 1):
            last = number == len(pieces)
            output = self.usage.output if last else self.usage.so_far(number)
            text = encode(self.part(piece, output, self.reason() if last else None))
            if self.sse:
                yield b"data: " + text + b"\r\n\r\n"
            else:
                yield (b"[" if number == 1 else b",\r\n") + text + (b"\n]" if last else b"\n")


def texts(messages):
    """All that is said in a list of messages, whose content may be a text or parts of one."""
    said = []
    for message in messages or []:
        content = message.get("content")
        parts = [{"text": content}] if isinstance(content, str) else content or []
        said += [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return said


def encode(value):
    # As providers do: no spaces, and characters as they are.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(value, name=None):
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + encode(value) + b"\n\n"


def api(path, body, headers):
    """Who is spoken to, by path and model."""
    bare = path.partition("?")[0]
    if bare.endswith("/chat/completions"):
        kind = Mistral if "stral" in str(body.get("model")) else Chat
    elif bare.endswith("/responses"):
        kind = Responses
    elif bare.endswith("/embeddings"):
        kind = Embeddings
    elif bare.endswith("/v1/messages"):
        kind = Messages
    elif bare.endswith((":generateContent", ":streamGenerateContent")):
        kind = Gemini
    else:
        return None
    return kind(path, body, headers)


numbers = itertools.count(1)
lock = threading.Lock()
seen = []
refusals = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # What is written leaves at once: clients are to meet exactly these cuts.
    disable_nagle_algorithm = True
    wbufsize = 0

    def do_GET(self):
        if self.path == "/-/seen":
            with lock:
                so_far = list(seen)
            self.reply(200, so_far)
        elif self.path.partition("?")[0].endswith("/models"):
            self.reply(200, {"object": "list", "data": [{"id": "gpt-5", "object": "model", "created": 0, "owned_by": "upstream"}]})
        else:
            self.exchange({})

    def do_POST(self):
        try:
            body = json.loads(self.read() or b"{}")
        except ValueError:
            body = None
        if isinstance(body, dict):
            self.exchange(body)
        else:
            self.reply(400, {"error": {"message": "The body is not a JSON object.", "type": "invalid_request_error"}})

    def exchange(self, body):
        said = api(self.path, body, self.headers) if self.command == "POST" else None
        if said is None:
            self.reply(404, {"error": {"message": f"Nothing is at {self.path.partition('?')[0]}.", "type": "invalid_request_error"}})
        elif self.is_busy():
            self.reply(429, said.busy(), {**said.quota(), "retry-after": self.headers.get("x-retry-after", "1")})
        elif said.refused():
            self.reply(*said.refused(), said.quota())
        elif said.streams():
            self.stream(said)
        else:
            self.reply(200, said.answer(), said.quota())

    def is_busy(self):
        if "x-busy" not in self.headers:
            return False
        with lock:
            name = self.headers.get("x-busy-id", "")
            left = refusals.get(name, int(self.headers["x-busy"]))
            refusals[name] = max(left - 1, 0)
            return left > 0

    def read(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def compresses(self):
        return "x-gzip" in self.headers and "gzip" in self.headers.get("accept-encoding", "")

    def begin(self, status, fields):
        if not self.path.startswith("/-/"):
            with lock:
                seen.append({"time": time.monotonic_ns() // 1_000_000, "path": self.path.partition("?")[0], "status": status})
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if self.compresses():
            self.send_header("content-encoding", "gzip")
        self.end_headers()

    def reply(self, status, value, fields=()):
        body = encode(value)
        if self.compresses():
            packer = zlib.compressobj(wbits=31)
            body = packer.compress(body) + packer.flush()
        self.begin(status, {**dict(fields), "content-type": "application/json", "content-length": str(len(body))})
        self.write([body], lambda data: data)

    def stream(self, said):
        self.begin(200, {**said.quota(), "content-type": said.stream_type, "cache-control": "no-cache", "transfer-encoding": "chunked"})
        events = said.events()
        if self.compresses():
            events = packed(events)
        if self.write(events, lambda data: b"%x\r\n%s\r\n" % (len(data), data)):
            self.wfile.write(b"0\r\n\r\n")

    def write(self, bodies, framed):
        """Writes a body in the cuts that the request asks for; whether all of it was."""
        cut, delay, stop = (int(self.headers.get(name, 0)) for name in ("x-cut", "x-delay", "x-stop"))
        left = stop or sys.maxsize
        for body in bodies:
            for start in range(0, len(body), cut or max(len(body), 1)):
                piece = body[start : start + cut if cut else None][:left]
                time.sleep(delay / 1000)
                self.wfile.write(framed(piece))
                left -= len(piece)
                if left == 0:
                    self.close_connection = True
                    return False
        return True

    def log_message(self, *_):
        """Quiet: what was asked is at /-/seen."""


def packed(events):
    packer = zlib.compressobj(wbits=31)
    for data in events:
        yield packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # Clients may go when they like; anything else is a mistake of ours.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help="serve there until interrupted")
    port = parser.parse_args().port
    server = Server(("127.0.0.1", port or 0), Handler)
    if port:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
