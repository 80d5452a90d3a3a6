"""The agent of agent.mjs in Python: an HTTP server in a process of its own that answers each message with its body."""
import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one segment: otherwise the second waits for an acknowledgement.
    wbufsize = -1

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps({"reply": asked["prompt"]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", int(os.environ.get("PORT", 0))), Agent)
print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
