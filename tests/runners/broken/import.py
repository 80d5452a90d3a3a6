settings = {}
PORT = settings["port"]
