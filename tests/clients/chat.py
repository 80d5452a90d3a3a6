# What the `openai` package of PyPI sees of agents. BASE_URL and TOKEN say where; the last line says that all of it is right.
import os

import openai

client = openai.OpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["TOKEN"], max_retries=0, timeout=60)

models = [model.id for model in client.models.list()]
assert "mayor" in models, models
assert client.models.retrieve("mayor").owned_by == "mayor"

hello = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
answer = client.chat.completions.create(model="mayor", messages=hello, temperature=0.3)
assert answer.choices[0].message.content == "Hello. I answer from a script.", answer
assert answer.choices[0].finish_reason == "stop", answer

pieces, finish = [], None
for chunk in client.chat.completions.create(model="mayor", messages=hello, stream=True):
    pieces.append(chunk.choices[0].delta.content or "")
    finish = chunk.choices[0].finish_reason or finish
assert "".join(pieces) == "Hello. I answer from a script.", pieces
assert finish == "stop", finish

with client.chat.completions.stream(model="mayor", messages=hello) as stream:
    text = "".join(event.delta for event in stream if event.type == "content.delta")
assert text == "Hello. I answer from a script.", text

tool = [{"role": "user", "content": 'emit town.square {"people":3}'}]
answer = client.chat.completions.create(model="mayor", messages=tool)
assert answer.choices[0].message.content == "emit returned: published", answer
pieces = client.chat.completions.create(model="mayor", messages=tool, stream=True)
text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
assert text.endswith("emit returned: published"), text

try:
    client.chat.completions.create(model="nobody", messages=hello)
    raise SystemExit("an agent that is not there answered")
except openai.NotFoundError as error:
    assert error.code == "no-such-agent" and "nobody" in error.message, error

try:
    for chunk in client.chat.completions.create(model="puppet", messages=[{"role": "user", "content": "panic"}], stream=True):
        pass
    raise SystemExit("a turn that crashed had an end")
except openai.APIError as error:
    assert error.code == "agent-ended", error

try:
    openai.OpenAI(base_url=os.environ["BASE_URL"], api_key="wrong", max_retries=0).models.list()
    raise SystemExit("a wrong key was taken")
except openai.AuthenticationError as error:
    assert error.status_code == 401, error

print("all right with openai", openai.__version__)
