"""An imitation of a provider of conversations in OpenAI's form.

It answers by rules: with the tool or the schema that it is given, filled from the last message, or with
a sentence. So what comes out tells whether everything went in and came back.
"""

import http.server
import json
import re
import threading

NAMES = {"en": "an answer from far away", "zh": "来自远方的回答"}


def text_of(message):
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def filled(schema, text, definitions):
    """A value that `schema` describes, made of `text`."""
    if "$ref" in schema:
        return filled(definitions[schema["$ref"].rsplit("/", 1)[1]], text, definitions)
    if "anyOf" in schema:
        return filled(schema["anyOf"][0], text, definitions)
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: filled(inner, text, definitions) for name, inner in properties.items()}
    if kind in ("integer", "number"):
        return int((re.findall(r"-?\d+", text) or ["1"])[0])
    if kind == "array":
        return [filled(schema.get("items", {"type": "string"}), text, definitions)]
    if kind == "boolean":
        return True
    return (re.findall(r"'([^']+)'", text) or [text])[0]


def tool_calls(request, text):
    """The calls that `request` asks for, if it does."""
    tools = [tool["function"] for tool in request.get("tools") or []]
    choice = request.get("tool_choice", "auto")
    is_answered = request["messages"][-1]["role"] == "tool"
    if not tools or choice == "none" or (choice == "auto" and is_answered):
        return []
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool["name"] == choice["function"]["name"]]
    schema = tools[0].get("parameters", {})
    arguments = json.dumps(filled(schema, text, schema.get("$defs", {})), ensure_ascii=False)
    call = {"id": "call_1", "type": "function", "function": {"name": tools[0]["name"], "arguments": arguments}}
    return [call]


def message_for(request):
    text = text_of(request["messages"][-1])
    if calls := tool_calls(request, text):
        return {"role": "assistant", "content": None, "tool_calls": calls}
    form = request.get("response_format") or {}
    if form.get("type") == "json_schema":
        schema = form["json_schema"]["schema"]
        return {"role": "assistant", "content": json.dumps(filled(schema, text, schema.get("$defs", {})))}
    if form.get("type") == "json_object":
        return {"role": "assistant", "content": json.dumps({"setup": text, "punchline": text})}
    answer = NAMES["zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"]
    for stop in [request["stop"]] if isinstance(request.get("stop"), str) else request.get("stop") or []:
        answer = answer.split(stop)[0]
    return {"role": "assistant", "content": answer, "reasoning_content": f"thoughts on {text!r}"}


def events(request, whole):
    """The answer in pieces of a few letters."""
    message = whole["choices"][0]["message"]
    head = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def chunk(delta, finish=None):
        return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for name in ("reasoning_content", "content"):
        text = message.get(name) or ""
        for start in range(0, len(text), 3):
            yield chunk({name: text[start : start + 3]})
    for index, call in enumerate(message.get("tool_calls", [])):
        arguments = call["function"]["arguments"]
        yield chunk({"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]})
        for start in range(0, len(arguments), 3):
            piece = {"index": index, "function": {"arguments": arguments[start : start + 3]}}
            yield chunk({"tool_calls": [piece]})
    yield chunk({}, whole["choices"][0]["finish_reason"])
    if (request.get("stream_options") or {}).get("include_usage"):
        yield head | {"choices": [], "usage": whole["usage"]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, dict(self.headers), request))
        if self.path != "/v1/chat/completions":
            return self.answer(404, {"error": {"message": "no such route", "type": "invalid_request_error"}})
        message = message_for(request)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
                 "prompt_tokens_details": {"cached_tokens": 2}}
        whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": request["model"],
                 "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
        if not request.get("stream"):
            return self.answer(200, whole)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(b": keep-alive\n\n")
        for event in events(request, whole):
            self.wfile.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def answer(self, status, body):
        body = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def start():
    """A running provider; its `seen` are the requests so far."""
    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.daemon_threads = True
    provider.seen = []
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    return provider
