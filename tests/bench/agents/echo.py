"""Answers with what it is told, as guest/echo does."""
from bulkhead import agent


@agent()
def echo(ctx, message):
    if message.text == "crash":
        raise TypeError("told to crash")
    return message.text
