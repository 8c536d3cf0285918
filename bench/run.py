#!/usr/bin/env python3
"""Runs the message benchmarks of bench/bench.lua on the release build.

usage: bench/run.py [NAME [ARGUMENT ...]]      all of them without a name
       bench/run.py data                       those of the data libraries (bench/data.lua)

Each runs five times with two workers, between two measurements of the
machine's speed (bench/unit.lua). Prints the median, the spread, and the median
divided by the speed; a spread over 15 % means a busy machine: run again.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNS = 5
ALL = ["ping", "fan", "spawn", "timer", "pack", "latency", "share"]
DATA = ["zset", "snowflake", "cron", "aoi", "seri", "sproto", "protobuf", "bson", "cjson", "crypt"]

CONFIG = f"""
thread = 2
harbor = 0
cpath = "{ROOT}/cservice/?.so"
lua_cpath = "{ROOT}/luaclib/?.so"
lua_path = "{ROOT}/lualib/?.lua;{ROOT}/lualib/?/init.lua;{ROOT}/bench/?.lua"
luaservice = "{ROOT}/service/?.lua;{ROOT}/bench/?.lua"
lualoader = "{ROOT}/lualib/loader.lua"
"""


def speed():
    out = subprocess.run([f"{ROOT}/3rd/lua/lua", f"{ROOT}/bench/unit.lua"],
                         check=True, capture_output=True, text=True).stdout
    return float(re.search(r"rounds_per_s=(\S+)", out).group(1))


def run_once(words):
    with tempfile.NamedTemporaryFile("w", suffix=".config") as f:
        f.write(CONFIG + f'start = "bench {" ".join(words)}"\n')
        f.flush()
        out = subprocess.run([f"{ROOT}/skynet", f.name], capture_output=True, text=True,
                             timeout=300).stdout
    line = re.search(r"^bench (.*)$", out, re.M)
    if not line:
        sys.exit(f"bench {' '.join(words)} printed no figure:\n{out[-2000:]}")
    return {k: float(v) for k, v in re.findall(r"(\w+)=(\S+)", line.group(1))}


def bench(words):
    before = speed()
    runs = [run_once(words) for _ in range(RUNS)]
    unit = (before + speed()) / 2
    for key in runs[0]:
        values = [r[key] for r in runs]
        median = statistics.median(values)
        spread = (max(values) - min(values)) / median * 100 if median else 0
        print(f"{' '.join(words):20} {key:18} {median:14.1f}  spread {spread:4.1f} %"
              f"  per unit {median / unit:10.2f}", flush=True)


if __name__ == "__main__":
    names = {(): [[n] for n in ALL], ("data",): [[n] for n in DATA]}
    for name in names.get(tuple(sys.argv[1:]), [sys.argv[1:]]):
        bench(name)
