from bulkhead import ModelError, agent, tool


@tool
def note(ctx, text: str):
    """Write something down."""
    ctx.state["notes"].append(text)


@agent(
    system="You are {{name}}. Answer briefly. Write down what you should remember.",
    tools=[note],
    state={"turns": 0, "notes": []},
)
def answer(ctx, message):
    ctx.state["turns"] += 1
    if message.text == "notes":
        return "\n".join(ctx.state["notes"]) or "no notes yet"
    try:
        return ctx.chat.ask(message.text)  # Those who watch see the answer as it comes.
    except ModelError as error:
        if error.code != "model-denied":
            raise
        return f"{ctx.state['turns']}: {message.text}"  # See `models` in bulkhead.toml.
