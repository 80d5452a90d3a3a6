from bulkhead import agent, start


@start
def begin(ctx):
    raise IndexError("not today")


@agent()
def broken(ctx, message):
    return message.text
