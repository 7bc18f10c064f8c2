#!/usr/bin/env python3
"""Replay of a run of 1,000 steps and of one of 60 turns, beside starting the program at all and `git log` of as many
commits; and what recording adds to the run of 60 turns. Medians in milliseconds, all measured in one go.

    scripts/bench/replay.py PROGRAM
"""
import http.server, json, os, statistics, subprocess, sys, tempfile, threading, time

program = os.path.abspath(sys.argv[1])
STEPS, TURNS = 1000, 60
env = {"PATH": os.environ["PATH"], "HOME": tempfile.mkdtemp(), "GIT_CONFIG_GLOBAL": "/dev/null",
       "GIT_CONFIG_NOSYSTEM": "1", "LANG": "C.UTF-8"}


class Model(http.server.BaseHTTPRequestHandler):
    """Writes a file a turn, then finishes."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        turn = sum(message["role"] == "assistant" for message in asked["messages"])
        name, arguments = "write_file", {"path": f"f{turn}.txt", "content": f"{turn}\n" * 200}
        if turn + 1 == TURNS:
            name, arguments = "finish", {"summary": "done"}
        call = {"id": f"c{turn}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        body = json.dumps({
            "choices": [{"index": 0, "finish_reason": "tool_calls",
                         "message": {"role": "assistant", "content": "Next. " * 50, "tool_calls": [call]}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        }).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def run(*arguments, cwd, **more):
    done = subprocess.run(arguments, cwd=cwd, env={**env, **more}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def median(times, *arguments, cwd):
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        run(*arguments, cwd=cwd)
        took.append((time.perf_counter() - begun) * 1000)
    return round(statistics.median(took), 1)


def write(folder, path, text):
    path = os.path.join(folder, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        out.write(text)


with tempfile.TemporaryDirectory(prefix="codeforge-bench-") as top:
    repo = os.path.join(top, "repo")
    os.mkdir(repo)
    steps = "".join(f"  s{n}: {{ run: \"true\"{f', needs: [s{n - 1}]' if n else ''} }}\n" for n in range(STEPS))
    write(repo, ".codeforge/workflows/long.yml", f"name: long\npolicy: open\nsteps:\n{steps}deliver: {{ as: none, if_no_changes: ok }}\n")
    write(repo, ".codeforge/workflows/talk.yml", "name: talk\npolicy: open\nsteps:\n  code: { mode: coder, prompt: Go }\ndeliver: { as: patch, title: Files }\n")
    write(repo, ".codeforge/policies/open.yml", "name: open\nrules: [{ tool: \"*\", decision: allow }]\ndefault: allow\nlimits: { max_steps: 100, max_cost_usd: 50 }\n")
    write(repo, "README.md", "bench\n")
    run("git", "init", "-q", cwd=repo)
    run("git", "add", "-A", cwd=repo)
    run("git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "base", cwd=repo)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env["CODEFORGE_LLM_BASE_URL"] = f"http://127.0.0.1:{server.server_port}/v1"
    env.update({"CODEFORGE_MODEL": "bench", "CODEFORGE_LLM_PRICE_INPUT": "1", "CODEFORGE_LLM_PRICE_OUTPUT": "1"})

    long, talk = os.path.join(top, "long.jsonl"), os.path.join(top, "talk.jsonl")
    run(program, "run", "long", "--sandbox", "none", "-q", "--record", long, cwd=repo)
    plain, recorded = [], []
    for _ in range(5):
        for took, more in ((plain, ()), (recorded, ("--record", talk))):
            begun = time.perf_counter()
            run(program, "run", "talk", "--sandbox", "none", "-q", *more, cwd=repo)
            took.append((time.perf_counter() - begun) * 1000)
    log = os.path.join(top, "log")
    os.mkdir(log)
    run("git", "init", "-q", cwd=log)
    stream = "".join(f"commit refs/heads/main\ncommitter b <b@b> {n} +0000\ndata 4\nstep\n" for n in range(1, STEPS + 1))
    subprocess.run(["git", "fast-import", "--quiet"], cwd=log, env=env, input=stream.encode(), check=True)
    replays = {name: median(9, program, "replay", "-q", file, cwd=top) for name, file in (("steps", long), ("turns", talk))}
    print(json.dumps({
        "start_ms": median(9, program, "--version", cwd=top),
        "git_log_1000_commits_ms": median(9, "git", "log", "--format=%H %s", "main", cwd=log),
        "replay_1000_steps_ms": replays["steps"],
        "replay_a_step_ms": round(replays["steps"] / STEPS, 3),
        "replay_60_turns_ms": replays["turns"],
        "assert_60_turns_ms": median(3, program, "replay", "--assert", talk, cwd=repo),
        "run_60_turns_ms": round(statistics.median(plain), 1),
        "run_60_turns_recorded_ms": round(statistics.median(recorded), 1),
        "cassette_1000_steps_bytes": os.path.getsize(long),
        "cassette_60_turns_bytes": os.path.getsize(talk),
    }, indent=2))
