"""Conversations: LangChain's own suite through `wenyi serve` with a provider behind it, and with a model here."""

import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class Through(ChatModelIntegrationTests):
    """A model behind a provider."""

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {"model": "far-away", "stream_usage": True}

    @property
    def supports_json_mode(self):
        return True


class TestThroughProvider(Through):
    @property
    def structured_output_kwargs(self):
        return {"method": "json_schema"}


class TestThroughProviderWithToolsAsForm(Through):
    @property
    def structured_output_kwargs(self):
        return {"method": "function_calling"}


class TestHere(ChatModelIntegrationTests):
    """The default chat model on this machine: the smallest there is, so what it cannot know its grammar does."""

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {"model": "smollm2-135m-instruct", "stream_usage": True, "max_tokens": 100, "temperature": 0}

    @property
    def model_override_value(self):
        return "chat"

    @property
    def supports_json_mode(self):
        return True

    @property
    def structured_output_kwargs(self):
        return {"method": "json_schema"}


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_the_provider_says_comes_back_as_it_is(is_stream, provider):
    import openai

    messages = [
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "好", "reasoning_content": "想"},
        {"role": "user", "content": "再说一次"},
    ]
    reply = openai.OpenAI().chat.completions.create(model="far-away", messages=messages, stream=is_stream)
    if is_stream:
        deltas = [chunk.choices[0].delta for chunk in reply if chunk.choices]
        content = "".join(delta.content or "" for delta in deltas)
        thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    else:
        content = reply.choices[0].message.content
        thoughts = reply.choices[0].message.reasoning_content
    assert (content, thoughts) == ("来自远方的回答", "thoughts on '再说一次'")
    path, headers, request = provider.seen[-1]
    assert (path, request["model"]) == ("/v1/chat/completions", "a-model")
    assert request["messages"] == messages
    # The provider's key, not the client's.
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer sk-of-the-provider"
