#!/usr/bin/env python3
"""What the gateway adds to a model call: a step's program asks a scripted provider, now directly, now through the
gateway of a real run (journal and budget included), in turn.

    scripts/bench/gateway.py target/release/codeforge
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

WARM, ROUNDS = 20, 500
QUESTION = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "x" * 4000}]}


class Provider:
    """Answers every request with the same few events, over connections that stay open."""

    def __init__(self):
        chunks = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "yes"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}},
        ]
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
        self.answer = (head + body).encode()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def serve(self):
        """One thread for each connection, in a process of its own."""
        import threading

        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            head, data = data.split(b"\r\n\r\n", 1)
            lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            length = int(lengths[0]) if lengths else 0
            while len(data) < length:
                data += connection.recv(65536)
            data = data[length:]
            connection.sendall(self.answer)


def ask(connection, token):
    """Milliseconds until the whole answer is there."""
    body = json.dumps(QUESTION)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    begun = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    text = answer.read()
    took = (time.perf_counter() - begun) * 1000
    assert answer.status == 200 and b"yes" in text, text
    return took


def program():
    """The step's program."""
    direct = http.client.HTTPConnection("127.0.0.1", int(os.environ["PROVIDER"]))
    through = http.client.HTTPConnection(os.environ["BASE"].removeprefix("http://"))
    for connection in (direct, through):
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    token, took = os.environ["TOKEN"], {"direct": [], "through": []}
    for number in range(WARM + ROUNDS):
        for name, connection in (("direct", direct), ("through", through)):
            one = ask(connection, token)
            if number >= WARM:
                took[name].append(one)
    with open(os.environ["RESULT"], "w") as out:
        json.dump(took, out)


def at(values, share):
    """A percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main(binary):
    provider = Provider()
    serving = os.fork()
    if serving == 0:
        provider.serve()
        os._exit(0)
    try:
        measure(binary, provider.port)
    finally:
        os.kill(serving, signal.SIGKILL)


def measure(binary, port):
    """Runs the program and prints what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        # Where root runs this, the program is somebody else.
        os.chmod(folder, 0o777)
        repo = pathlib.Path(folder, "repo")
        result = pathlib.Path(folder, "result.json")
        script = pathlib.Path(folder, "program.py")
        script.write_text(pathlib.Path(__file__).read_text())
        backend = {
            "name": "asker",
            "dialect": "openai",
            "command": ["/usr/bin/python3", str(script), "--program"],
            "env": {
                "BASE": "{base_url}",
                "TOKEN": "{api_key}",
                "PROVIDER": str(port),
                "RESULT": str(result),
            },
        }
        workflow = {
            "name": "w",
            "policy": "lax",
            "sandbox": {"driver": "none"},
            "deliver": "none",
            "steps": {"work": {"backend": "asker", "mode": "asker", "prompt": "Ask."}},
        }
        policy = {"name": "lax", "rules": [{"tool": "*", "decision": "allow"}], "limits": {"max_steps": 5000}}
        mode = {"name": "asker", "prompt": "Ask.", "tools": ["read_file"], "read_only": True, "max_steps": 5000}
        for name, value in {"workflows/w": workflow, "modes/asker": mode, "backends/asker": backend, "policies/lax": policy}.items():
            file = repo / ".codeforge" / f"{name}.yml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value))
        git = ["git", "-C", str(repo), "-c", "user.name=b", "-c", "user.email=b@example.com"]
        subprocess.run(["git", "init", "-q", "-b", "main", str(repo)], check=True)
        subprocess.run([*git, "add", "--all"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "CODEFORGE_LLM_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "CODEFORGE_MODEL": "scripted",
            "CODEFORGE_LLM_PRICE_INPUT": "1",
            "CODEFORGE_LLM_PRICE_OUTPUT": "2",
        }
        run = subprocess.run([binary, "run", "w", "--budget", "1000", "-q"], cwd=repo, env=env, text=True, capture_output=True)
        if not result.exists():
            sys.exit(f"the run ended with {run.returncode}\n{run.stdout}\n{run.stderr}")
        took = json.loads(result.read_text())
    direct, through = took["direct"], took["through"]
    added = [b - a for a, b in zip(direct, through)]
    for name, values in (("directly", direct), ("through the gateway", through), ("added", added)):
        print(f"{name:>20}: p50 {at(values, 0.5):.2f} ms, p99 {at(values, 0.99):.2f} ms")


if __name__ == "__main__":
    program() if "--program" in sys.argv else main(sys.argv[1])
