#!/usr/bin/env python3
"""Checkpoint and restore after ten edits in a repository of 50,000 files: an overlay and a copy, beside git's command
line with a warm, persistent index of its own. Medians in milliseconds, all measured in one go."""
import json, os, shutil, statistics, subprocess, sys, tempfile, time

example = sys.argv[1]
env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
top = tempfile.mkdtemp(prefix="codeforge-bench-")
repo = os.path.join(top, "repo")


def git(*arguments, **more):
    return subprocess.run(["git", "-C", repo, *arguments], check=True, capture_output=True, env={**env, **more})


try:
    os.makedirs(repo)
    for folder in range(500):
        os.mkdir(os.path.join(repo, f"d{folder}"))
        for file in range(100):
            with open(os.path.join(repo, f"d{folder}", f"f{file}.txt"), "w") as out:
                out.write(f"{folder} {file}\n" * 3)
    git("init", "-q")
    git("add", "-A")
    git("-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "base")
    time.sleep(1.1)  # so that no file is as young as the index: git would read it again each time
    git("update-index", "--refresh", "-q")
    out = {}
    for kind in ("overlay", "copy"):
        said = subprocess.run([example, repo, kind], check=True, capture_output=True, text=True).stdout
        out[kind] = json.loads(said)
    index = {"GIT_INDEX_FILE": os.path.join(top, "index")}
    shutil.copy(os.path.join(repo, ".git", "index"), index["GIT_INDEX_FILE"])
    git("add", "-A", **index)
    base = git("write-tree", **index).stdout.decode().strip()
    checkpoint, restore = [], []
    for round in range(15):
        for file in range(10):
            with open(os.path.join(repo, f"d{file * 40}", f"f{file}.txt"), "w") as edited:
                edited.write(f"edited {round}\n")
        begun = time.perf_counter()
        git("add", "-A", **index)
        git("write-tree", **index)
        checkpoint.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        git("read-tree", "-u", "--reset", base, **index)
        restore.append((time.perf_counter() - begun) * 1000)
    out["git"] = {"checkpoint_ms": statistics.median(checkpoint), "restore_ms": statistics.median(restore)}
    print(json.dumps(out))
finally:
    shutil.rmtree(top, ignore_errors=True)
