"""Copies what docker would send as the context of a build: the files under git that .dockerignore lets through.

    python3 tests/deploy/context.py FOLDER
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2].resolve()


def rules():
    """Of each line a pattern, and whether it excludes. The last one that fits a path, or a folder above it, decides."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        excludes = not line.startswith("!")
        pattern = re.escape(line.lstrip("!").strip("/"))
        # `**` stands for any folders, `*` for anything in a name.
        pattern = pattern.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        yield re.compile(pattern + "(?:/.*)?"), excludes


def wanted(path, parsed):
    excluded = False
    for pattern, excludes in parsed:
        if pattern.fullmatch(path):
            excluded = excludes
    return not excluded


def main(folder):
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    parsed = list(rules())
    paths = [path for path in listed.stdout.decode().split("\0") if path and (ROOT / path).is_file() and wanted(path, parsed)]
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target)
    size = sum((ROOT / path).stat().st_size for path in paths)
    print(f"{len(paths)} files, {size / 1e6:.1f} MB")


main(Path(sys.argv[1]))
