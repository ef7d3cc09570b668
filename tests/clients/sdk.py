"""The official Python SDKs, each used as an application uses it.

    sdk.py JOB    JOB is JSON: {"client": …, "address": "http://127.0.0.1:…", "runs": [{"name", "call", "key", "times", "options"}, …]}

All runs start at once, each with a client and a key of its own; a run makes its call so many times, one after the other. Prints JSON:
{"version": …, "runs": {name: [what each call came to]}}.
"""

import importlib.metadata
import json
import sys
import time
from concurrent import futures

SAY = [{"role": "user", "content": "hello"}]


def openai(address, key, options):
    import openai

    return openai_calls(openai.OpenAI(base_url=f"{address}/v1", api_key=key, **options), "gpt-5")


def azure(address, key, options):
    import openai

    client = openai.AzureOpenAI(azure_endpoint=address, api_key=key, api_version="2024-10-21", **options)
    return openai_calls(client, "my-deployment")


def portkey(address, key, options):
    import portkey_ai

    # Two keys in each request: the gateway's, and the provider's in Authorization.
    client = portkey_ai.Portkey(base_url=f"{address}/v1", api_key=key, provider="openai", Authorization="the-provider's-key", **options)
    return openai_calls(client, "gpt-5")


def openai_calls(client, model):
    def chat():
        return client.chat.completions.create(model=model, messages=SAY).choices[0].message.content

    def chat_stream():
        text, tokens = "", None
        options = {"include_usage": True}
        for chunk in client.chat.completions.create(model=model, messages=SAY, stream=True, stream_options=options):
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            tokens = chunk.usage or tokens
        assert tokens.total_tokens == 4, tokens
        return text

    def responses():
        return client.responses.create(model=model, input="hello").output_text

    def responses_stream():
        text = ""
        for event in client.responses.create(model=model, input="hello", stream=True):
            text += event.delta if event.type == "response.output_text.delta" else ""
        assert event.type == "response.completed" and event.response.usage.total_tokens == 4, event
        return text

    def embeddings():
        assert client.embeddings.create(model=model, input="hello").data[0].embedding == [0.25, -0.5, 0.125]
        return "You said: hello"

    return locals()


def anthropic(address, key, options):
    import anthropic

    client = anthropic.Anthropic(base_url=address, api_key=key, **options)
    ask = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": SAY}

    def messages():
        return client.messages.create(**ask).content[0].text

    def messages_stream():
        with client.messages.stream(**ask) as stream:
            message = stream.get_final_message()
        assert message.usage.output_tokens == 3, message
        return message.content[0].text

    return locals()


def mistral(address, key, options):
    from mistralai.client import Mistral
    from mistralai.client.utils import BackoffStrategy, RetryConfig

    if options.pop("retries", False):
        options["retry_config"] = RetryConfig("backoff", BackoffStrategy(500, 8000, 1.5, 30000), False)
    client = Mistral(api_key=key, server_url=address, **options)
    ask = {"model": "mistral-small-latest", "messages": SAY}

    def chat():
        return client.chat.complete(**ask).choices[0].message.content

    def chat_stream():
        text = ""
        with client.chat.stream(**ask) as stream:
            for event in stream:
                text += event.data.choices[0].delta.content or ""
        assert event.data.usage.total_tokens == 4, event
        return text

    return locals()


def google(address, key, options):
    from google import genai

    http = {"base_url": address}
    if options.pop("retries", False):
        http["retry_options"] = {}
    client = genai.Client(api_key=key, http_options=http, **options)
    ask = {"model": "gemini-2.5-flash", "contents": "hello"}

    def generate():
        return client.models.generate_content(**ask).text

    def generate_stream():
        text = ""
        for chunk in client.models.generate_content_stream(**ask):
            text += chunk.text
        assert chunk.usage_metadata.total_token_count == 4, chunk
        return text

    return locals()


CLIENTS = {
    "openai": (openai, "openai"),
    "azure": (azure, "openai"),
    "anthropic": (anthropic, "anthropic"),
    "mistral": (mistral, "mistralai"),
    "google": (google, "google-genai"),
    "portkey": (portkey, "portkey-ai"),
}


def outcome(call):
    start = time.monotonic()
    try:
        return {"text": call(), "seconds": time.monotonic() - start}
    except Exception as error:
        kind = type(error)
        response = getattr(error, "response", None)
        headers = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
        return {
            "error": f"{kind.__module__}.{kind.__qualname__}",
            "message": str(error),
            "status": getattr(error, "status_code", None) or getattr(response, "status_code", None) or getattr(error, "code", None),
            "type": getattr(error, "type", None),
            "code": getattr(error, "code", None),
            # What Google calls so: RESOURCE_EXHAUSTED.
            "state": getattr(error, "status", None),
            "body": repr(getattr(error, "body", None) or getattr(error, "details", None)),
            "retry_after": headers.get("retry-after"),
            "seconds": time.monotonic() - start,
        }


def main():
    job = json.loads(sys.argv[1])
    client, package = CLIENTS[job["client"]]

    def run(wanted):
        call = client(job["address"], wanted["key"], dict(wanted["options"]))[wanted["call"]]
        return [outcome(call) for _ in range(wanted["times"])]

    # The first import takes its time and is nobody's wait.
    client(job["address"], "nobody", {})
    with futures.ThreadPoolExecutor(max_workers=len(job["runs"])) as pool:
        came = {wanted["name"]: pool.submit(run, wanted) for wanted in job["runs"]}
        runs = {name: future.result() for name, future in came.items()}
    print(json.dumps({"version": importlib.metadata.version(package), "runs": runs}))


main()
