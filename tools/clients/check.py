"""What the official Python client makes of the server's answers. Run by `tools/clients/run`."""

import json

import openai

client = openai.OpenAI(max_retries=0)
model = client.models.list().data[0].id
assert client.models.retrieve(model).id == model
hello = [{"role": "user", "content": "Hello"}]


def chat(**fields):
    return client.chat.completions.create(model=model, messages=hello, **fields)


whole = chat(max_tokens=8, seed=1, n=2, logprobs=True, top_logprobs=3)
assert len(whole.choices) == 2 and whole.choices[0].message.role == "assistant"
assert whole.choices[0].finish_reason in ("stop", "length")
assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 3
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

texts, usage, ends = {0: "", 1: ""}, None, {}
for chunk in chat(max_tokens=8, seed=1, n=2, stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        texts[choice.index] += choice.delta.content or ""
        ends[choice.index] = choice.finish_reason or ends.get(choice.index)
assert [c.message.content for c in whole.choices] == [texts[0], texts[1]]
assert [c.finish_reason for c in whole.choices] == [ends[0], ends[1]]
assert usage.completion_tokens == whole.usage.completion_tokens

schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
formed = chat(max_tokens=60, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
assert isinstance(json.loads(formed.choices[0].message.content)["ok"], bool)

tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": schema}}
called = chat(max_tokens=200, tools=[tool], tool_choice="required")
call = called.choices[0].message.tool_calls[0]
assert called.choices[0].finish_reason == "tool_calls" and call.function.name == "look"
assert isinstance(json.loads(call.function.arguments)["ok"], bool)
with client.chat.completions.stream(
    model=model, messages=hello, max_tokens=200, tools=[tool], tool_choice={"type": "function", "function": {"name": "look"}}
) as events:
    final = events.get_final_completion()
assert isinstance(json.loads(final.choices[0].message.tool_calls[0].function.arguments)["ok"], bool)

scored = client.completions.create(model=model, prompt="Hello there", max_tokens=0, echo=True, logprobs=1)
assert scored.choices[0].text == "Hello there" and scored.choices[0].logprobs.token_logprobs[0] is None
finished = client.completions.create(model=model, prompt=["Hello", "there"], max_tokens=5, seed=3)
streamed = ["", ""]
for chunk in client.completions.create(model=model, prompt=["Hello", "there"], max_tokens=5, seed=3, stream=True):
    streamed[chunk.choices[0].index] += chunk.choices[0].text
assert streamed == [c.text for c in finished.choices]

vectors = client.embeddings.create(model=model, input=["a", "b"])  # the client asks for base64 by itself
plain = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
assert len(vectors.data) == 2
assert max(abs(x - y) for x, y in zip(vectors.data[1].embedding, plain.data[1].embedding)) < 1e-6

answer = client.responses.create(model=model, input="Hello", max_output_tokens=6, temperature=0)
assert answer.status in ("completed", "incomplete") and answer.output_text is not None
text, last = "", None
for event in client.responses.create(model=model, input="Hello", max_output_tokens=6, temperature=0, stream=True):
    if event.type == "response.output_text.delta":
        text += event.delta
    last = event
assert last.type in ("response.completed", "response.incomplete") and last.response.output_text == text == answer.output_text


def refused(kind, work):
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


assert refused(openai.BadRequestError, lambda: chat(temperature=5)).param == "temperature"
assert refused(openai.BadRequestError, lambda: chat(functions=[])).param == "functions"
other = lambda: client.chat.completions.create(model="other", messages=hello)
assert refused(openai.NotFoundError, other).code == "model_not_found"
assert refused(openai.AuthenticationError, lambda: openai.OpenAI(api_key="sk-tesT").models.list()).code == "invalid_api_key"
print(f"openai {openai.__version__} for Python: passed")
