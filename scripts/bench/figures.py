#!/usr/bin/env python3
"""The figures of docs/benchmarks.md: start, validate, a thousand steps, checkpoints, sandboxes, memory."""
import json, os, resource, statistics, subprocess, sys, tempfile, time

binary, checkpoints = sys.argv[1], sys.argv[2]
here = os.path.dirname(os.path.abspath(__file__))
clean = {"PATH": os.environ["PATH"], "HOME": tempfile.mkdtemp(prefix="codeforge-bench-home-"), "LANG": "C.UTF-8"}
clean |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def times(command, n, **more):
    taken = []
    for _ in range(n):
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean, **more)
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


def repo(files):
    folder = tempfile.mkdtemp(prefix="codeforge-bench-")
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            out.write(text)
    for command in (["git", "init", "-q"], ["git", "add", "-A"],
                    ["git", "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "base"]):
        subprocess.run(command, cwd=folder, check=True, env=clean)
    return folder


def row(what, measured, peer, target):
    print(f"| {what} | {measured} | {peer} | {target} |", flush=True)


print("| what | measured | beside it | target |\n|---|---|---|---|")
row("`codeforge --version`", f"{times([binary, '--version'], 40):.1f} ms", f"`git --version` {times(['git', '--version'], 40):.1f} ms", "10 ms or less")

step = "  s{n}:\n    mode: coder\n    needs: [{need}]\n    prompt: |\n      Do part {n} of\n      {{{{ inputs.task }}}}\n    attempts: 2\n    gates: [tests]\n"
flow = "name: w{n}\ndescription: A workflow\ninputs:\n  task: {{ type: string, required: true }}\nsteps:\n  s0: {{ run: make }}\n" 
files = {}
for number in range(200):
    text = flow.format(n=number) + "".join(step.format(n=n, need=f"s{n - 1}") for n in range(1, 7)) + "gates:\n  tests: { run: make test, on_fail: retry }\ndeliver: { as: patch, title: Done }\n"
    files[f".codeforge/workflows/w{number}.yml"] = text
lines = len(text.splitlines())
many = repo(files)
row(f"`validate`, 200 workflows of {lines} lines", f"{times([binary, 'validate'], 15, cwd=many):.0f} ms", "zizmor, as many of GitHub's: 280 ms (not run here)", "100 ms or less")

plain = repo({".codeforge/workflows/steps.yml": "name: steps\npolicy: trusted-mount-autonomous\nsandbox: { driver: none, exec_mode: mount }\ndeliver: none\ngates: { tests: { run: \"true\" }, lint: { run: \"true\" } }\nsteps:\n"
              + "".join(f"  s{n}: {{ run: \"true\"" + (f", needs: [s{n - 1}]" if n else "") + " }\n" for n in range(1000))})
run = [binary, "run", "steps", "--sandbox", "none", "-q"]
taken = times(run, 3, cwd=plain)
empty = repo({".codeforge/workflows/steps.yml": "name: steps\npolicy: trusted-mount-autonomous\nsandbox: { driver: none, exec_mode: mount }\ndeliver: none\ngates: { tests: { run: \"true\" }, lint: { run: \"true\" } }\nsteps: { s0: { run: \"true\" } }\n"})
one = times(run, 5, cwd=empty)
begun = time.perf_counter()
for _ in range(1000):
    subprocess.run(["sh", "-c", "true"], check=True)
spawn = time.perf_counter() - begun
row("1,000 steps `run: true`, journal included", f"{taken / 1000:.2f} ms a step ({taken / 1000:.2f} s in all; a run of one step takes {one:.0f} ms)", f"`sh -c true` 1,000 times: {spawn:.2f} ms each", "twice the spawn or less")

found = json.loads(subprocess.run([sys.executable, os.path.join(here, "checkpoints.py"), checkpoints], check=True, capture_output=True, text=True).stdout)
for kind in ("overlay", "copy"):
    now, peer = found[kind], found["git"]
    row(f"checkpoint, 50,000 files, ten edits: {kind}", f"{now['checkpoint_ms']:.1f} ms", f"git, warm index: {peer['checkpoint_ms']:.0f} ms", "half or less")
    row(f"restore, the same: {kind}", f"{now['restore_ms']:.1f} ms", f"git read-tree -u: {peer['restore_ms']:.0f} ms", "a tenth or less")
    row(f"making the workspace: {kind}", f"{now['open_ms']:.0f} ms (taking stock before it: {now['base_ms']:.0f} ms)", "", "not seconds")


def peak(command, **more):
    """Peak resident memory of a process, in MiB, from the kernel's own account."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean, **more)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, status
    return usage.ru_maxrss / 1024


row("peak memory: the demo", f"{peak([binary, 'demo', '--dir', tempfile.mkdtemp() + '/d']):.0f} MiB", "", "60 MB or less")
row("peak memory: 1,000 steps", f"{peak(run, cwd=plain):.0f} MiB", "", "60 MB or less")
