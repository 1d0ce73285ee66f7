"""The description of the interface is kept: by requests that it allows, and by some that it does not.

Schemathesis makes both from `/openapi.json`. Names of models cannot stand in a description, so a request gets one of
the kind that its route needs, and what a model of noise cannot do is left out.
"""

import hypothesis
import pytest
import schemathesis
from conftest import KEY
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

MODELS = {"embed": "bert", "rerank": "cross_encoder", "chat": "chat", "completions": "chat", "generate": "chat", "ask": "chat", "show": "bert"}
# A vocabulary, prompts and widths are the model's, and Ollama's empty conversation only loads it.
UNKNOWABLE = [positive_data_acceptance]
LENIENT = ["/api/chat", "/api/generate"]
# What is stored is looked up by names that no description has; `test_qdrant.py` and `test_vector_stores.py` ask for it.
STORED = ("/collections", "/v1/files", "/v1/vector_stores")
# For models that were taught to use them.
TAUGHT = ["tools", "tool_choice", "response_format", "reasoning_effort", "format", "think"]

def fitting(path, body):
    if not isinstance(body, dict):
        return body
    body = {name: value for name, value in body.items() if name not in TAUGHT}
    if isinstance(body.get("model"), str):
        kinds = [model for word, model in MODELS.items() if word in path]
        body["model"] = kinds[-1]
    if isinstance(body.get("parameters"), dict):
        body["parameters"] = {k: v for k, v in body["parameters"].items() if k not in ("output_type", "instruct")}
    for holder in [body, body.get("parameters")]:
        for name in ["dimensions", "dimension"]:
            if isinstance(holder, dict) and isinstance(holder.get(name), (int, float)) and holder[name] > 8:
                holder[name] = 8
    return body


def keep(operation, mode):
    """Sends `operation` requests that its description allows, or does not, and checks the answers."""
    excluded = UNKNOWABLE + ([negative_data_rejection] if operation.path in LENIENT else [])

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=15, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def check(case):
        case.body = fitting(case.path, case.body)
        headers = {"authorization": f"Bearer {KEY}"}
        case.call_and_validate(headers=headers, timeout=60, excluded_checks=excluded)

    check()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_route_keeps_its_description(server, mode):
    description = schemathesis.openapi.from_url(f"{server}/openapi.json")
    operations = [result.ok() for result in description.get_all_operations()]
    assert len(operations) > 30
    for operation in operations:
        if operation.path.startswith(STORED):
            continue
        # Without a body there is nothing to get wrong.
        if mode is GenerationMode.POSITIVE or operation.method.lower() == "post":
            keep(operation, mode)
