#!/usr/bin/env python3
"""Milliseconds a turn: a run of 50 turns with one trivial command each, against a model that answers at once.

turns.py CODEFORGE INSTANT_MODEL: native sandbox, policy, journal and checkpoints on. The time of a run of no turn is
taken off, so that what is left is turns. Beside it, in the same run: the command alone (`sh -c true`), the same command
in bubblewrap, and git's own checkpoint of the same tree.
"""
import os, statistics, subprocess, sys, tempfile, time

binary, model = sys.argv[1], sys.argv[2]
TURNS, RUNS = 50, 7
clean = {"PATH": os.environ["PATH"], "HOME": tempfile.mkdtemp(prefix="codeforge-bench-home-"), "LANG": "C.UTF-8",
         "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
WORKFLOW = """name: turns
policy: { rules: [{ tool: "*", decision: allow }], default: allow, limits: { max_steps: 1000 } }
sandbox: { driver: DRIVER }
steps:
  work: { mode: coder, prompt: "Say true." }
deliver: { as: none, if_no_changes: ok }
"""


def repository(driver):
    folder = tempfile.mkdtemp(prefix="codeforge-bench-")
    files = {f"src/file{n}.txt": f"line {n}\n" * 50 for n in range(200)}
    files[".codeforge/workflows/turns.yml"] = WORKFLOW.replace("DRIVER", driver)
    for name, text in files.items():
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "w") as out:
            out.write(text)
    for command in (["git", "init", "-q"], ["git", "add", "-A"],
                    ["git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "base"]):
        subprocess.run(command, cwd=folder, check=True, env=clean)
    return folder


def run(folder, turns, call="true"):
    server = subprocess.Popen([model, str(turns), call], stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().strip()
        env = clean | {"CODEFORGE_LLM_BASE_URL": address, "CODEFORGE_MODEL": "instant", "CODEFORGE_LLM_PRICE_INPUT": "0.1",
                       "CODEFORGE_LLM_PRICE_OUTPUT": "0.1", "CODEFORGE_LLM_MAX_OUTPUT": "1000"}
        begun = time.perf_counter()
        done = subprocess.run([binary, "run", "turns", "-q"], cwd=folder, env=env, capture_output=True, text=True)
        taken = (time.perf_counter() - begun) * 1000
        if done.returncode != 0:
            raise SystemExit(f"{done.returncode}\n{done.stdout}\n{done.stderr}")
        return taken
    finally:
        server.kill()
        server.wait()


def median(what, n):
    taken = []
    for _ in range(n):
        begun = time.perf_counter()
        what()
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


for driver in ("native", "none"):
    folder = repository(driver)
    run(folder, 1)
    none = statistics.median(run(folder, 0) for _ in range(RUNS))
    whole = [run(folder, TURNS) for _ in range(RUNS)]
    turn = (statistics.median(whole) - none) / TURNS
    print(f"{driver}: {turn:.2f} ms a turn ({statistics.median(whole):.0f} ms for {TURNS} turns, {none:.0f} ms for none)", flush=True)

read = [run(folder, TURNS, "read:src/file1.txt") for _ in range(RUNS)]
none = statistics.median(run(folder, 0) for _ in range(RUNS))
print(f"a file read instead of a command: {(statistics.median(read) - none) / TURNS:.2f} ms a turn: request, answer, two "
      "durable commits, no process and no checkpoint", flush=True)

shell = median(lambda: subprocess.run(["sh", "-c", "true"], check=True), 100)
bwrap = median(lambda: subprocess.run(["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all",
                                       "--die-with-parent", "sh", "-c", "true"], check=True), 50)
git = median(lambda: (subprocess.run(["git", "add", "-A"], cwd=folder, env=clean, check=True),
                      subprocess.run(["git", "write-tree"], cwd=folder, env=clean, check=True, stdout=subprocess.DEVNULL)), 30)
print(f"beside it: `sh -c true` {shell:.1f} ms, in bubblewrap {bwrap:.1f} ms, git's checkpoint {git:.1f} ms")
