"""The official Python SDKs, each asking once in every way it has, and saying what the response was counted as.

    sdk.py JOB    JOB is JSON: {"address": "http://127.0.0.1:…", "input", "cached", "output", "reasoning"}

The key of each call is its name. Prints JSON: {"call": {"input": …, "output": …, "text": …}, …}, tokens as this SDK reports them.
"""

import json
import sys
from concurrent import futures

SAY = [{"role": "user", "content": "hello"}]


def of_openai(usage):
    return {"input": usage.prompt_tokens, "output": getattr(usage, "completion_tokens", 0)}


def of_responses(usage):
    return {"input": usage.input_tokens, "output": usage.output_tokens}


def of_anthropic(usage):
    # What came from a cache is not in input_tokens.
    inputs = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return {"input": inputs, "output": usage.output_tokens}


def of_google(usage):
    # What was thought is not in candidates_token_count.
    outputs = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    return {"input": usage.prompt_token_count, "output": outputs}


def openai(address, headers):
    import openai

    def client(call):
        return openai.OpenAI(base_url=f"{address}/v1", api_key=call, default_headers=headers, max_retries=0)

    def chat(call):
        reply = client(call).chat.completions.create(model="gpt-5", messages=SAY)
        return {**of_openai(reply.usage), "text": reply.choices[0].message.content}

    def stream(call, **options):
        text, usage, last = "", None, None
        for chunk in client(call).chat.completions.create(model="gpt-5", messages=SAY, stream=True, **options):
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            usage, last = chunk.usage or usage, chunk
        return text, usage, last

    def chat_stream(call):
        text, usage, last = stream(call, stream_options={"include_usage": True})
        assert last.choices == [], last
        return {**of_openai(usage), "text": text}

    def chat_stream_unasked(call):
        # This client did not ask for usage, so it must not see any: what was counted is known from the call that did.
        text, usage, last = stream(call)
        assert usage is None and last.choices, last
        return {"input": None, "output": None, "text": text}

    def azure_stream_unasked(call):
        azure = openai.AzureOpenAI(azure_endpoint=address, api_key=call, api_version="2024-10-21", default_headers={**headers, "x-api-key": call})
        chunks = list(azure.chat.completions.create(model="deployed", messages=SAY, stream=True))
        assert all(chunk.usage is None and chunk.choices for chunk in chunks), chunks[-1]
        return {"input": None, "output": None, "text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks)}

    def responses(call):
        reply = client(call).responses.create(model="gpt-5", input="hello")
        return {**of_responses(reply.usage), "text": reply.output_text}

    def responses_stream(call):
        text = ""
        for event in client(call).responses.create(model="gpt-5", input="hello", stream=True):
            text += event.delta if event.type == "response.output_text.delta" else ""
        return {**of_responses(event.response.usage), "text": text}

    def embeddings(call):
        reply = client(call).embeddings.create(model="gpt-5", input="hello")
        return {**of_openai(reply.usage), "text": "You said: hello"}

    return [chat, chat_stream, chat_stream_unasked, azure_stream_unasked, responses, responses_stream, embeddings]


def anthropic(address, headers):
    import anthropic

    def client(call):
        return anthropic.Anthropic(base_url=address, api_key=call, default_headers=headers, max_retries=0)

    ask = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": SAY}

    def messages(call):
        reply = client(call).messages.create(**ask)
        return {**of_anthropic(reply.usage), "text": reply.content[0].text}

    def messages_stream(call):
        with client(call).messages.stream(**ask) as stream:
            reply = stream.get_final_message()
        return {**of_anthropic(reply.usage), "text": reply.content[0].text}

    return [messages, messages_stream]


def google(address, headers):
    from google import genai

    def client(call):
        return genai.Client(api_key=call, http_options={"base_url": address, "headers": headers})

    ask = {"model": "gemini-2.5-flash", "contents": "hello"}

    def generate(call):
        asking = client(call)  # it closes its connections when nobody holds it any more
        reply = asking.models.generate_content(**ask)
        return {**of_google(reply.usage_metadata), "text": reply.text}

    def generate_stream(call):
        text, asking = "", client(call)
        for chunk in asking.models.generate_content_stream(**ask):
            text += chunk.text
        return {**of_google(chunk.usage_metadata), "text": text}

    return [generate, generate_stream]


def mistral(address, headers):
    from mistralai.client import Mistral

    def client(call):
        return Mistral(api_key=call, server_url=address)

    ask = {"model": "mistral-small-latest", "messages": SAY, "http_headers": headers}

    def mistral_chat(call):
        reply = client(call).chat.complete(**ask)
        return {**of_openai(reply.usage), "text": reply.choices[0].message.content}

    def mistral_stream(call):
        text = ""
        with client(call).chat.stream(**ask) as stream:
            for event in stream:
                text += event.data.choices[0].delta.content or ""
        return {**of_openai(event.data.usage), "text": text}

    return [mistral_chat, mistral_stream]


def main():
    job = json.loads(sys.argv[1])
    headers = {f"x-usage-{name}": str(job[name]) for name in ("input", "cached", "output", "reasoning")}
    calls = [call for client in (openai, anthropic, google, mistral) for call in client(job["address"], headers)]
    with futures.ThreadPoolExecutor(max_workers=4) as pool:
        said = {call.__name__: pool.submit(call, call.__name__) for call in calls}
        print(json.dumps({name: future.result() for name, future in said.items()}))


main()
