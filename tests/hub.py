"""A Hugging Face hub on this machine, and processes that load models from it."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

TOKEN = "of somebody who may write"


class Hub:
    """A loopback server that answers what the hub's client asks: a repository's listing and its
    files, by revision; and that takes commits of those who give :data:`TOKEN`.
    """

    def __init__(self, repositories: dict[str, dict[str, dict[str, bytes]]]) -> None:
        self.repositories, self.asked = repositories, []
        self.failing: dict[str, int] = {}  # beginning of a path -> status
        self.private: dict[str, bool] = {}
        self.stored: dict[str, bytes] = {}  # large files by their SHA-256, before their commit
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(self.path).partition("?")[0]
                hub.asked.append(path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                may_write = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                if self.command in ("GET", "HEAD"):
                    status, answer, headers = hub.answer(path)
                else:
                    status, answer, headers = hub.take(path, body, may_write)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_HEAD = do_POST = do_PUT = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        for beginning, status in self.failing.items():
            if path.startswith(beginning):
                return status, b"", {}
        if match := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)(?:/revision/([\w./-]+))?", path):
            files = self.repositories.get(match[1], {}).get(match[2] or "main")
            if files is not None:
                return as_json(
                    {
                        "id": match[1],
                        "sha": self.commit(match[2] or "main"),
                        "siblings": [{"rfilename": name} for name in files],
                    }
                )
        if match := re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/([\w./-]+)/([\w.]+)", path):
            files = self.repositories.get(match[1], {}).get(match[2], {})
            if match[3] in files:
                return (
                    200,
                    files[match[3]],
                    {
                        "ETag": f'"{abs(hash(files[match[3]]))}"',
                        "X-Repo-Commit": self.commit(match[2]),
                    },
                )
            return 404, b"", {"X-Error-Code": "EntryNotFound"}
        return 404, b"", {"X-Error-Code": "RepoNotFound"}

    def take(self, path: str, body: bytes, may_write: bool) -> tuple[int, bytes, dict[str, str]]:
        """Answer a POST or PUT: a new repository, a card to check, a large file, a commit."""
        for beginning, status in self.failing.items():
            if path.startswith(beginning):
                return status, b"", {}
        if not may_write and not path.startswith("/stored/"):
            return 401, b"", {}
        if path == "/api/repos/create":
            asked = json.loads(body)
            hub_id = f"{asked['organization']}/{asked['name']}"
            if hub_id in self.repositories:
                return 409, b"", {}
            self.repositories[hub_id] = {"main": {}}
            self.private[hub_id] = asked.get("private", asked.get("visibility") == "private")
            return as_json({"url": f"{self.url}/{hub_id}", "name": hub_id, "id": hub_id})
        if path == "/api/validate-yaml":
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            faults = [] if {"license", "tags", "library_name"} <= front.keys() else ["front matter"]
            return as_json({"errors": [{"message": fault} for fault in faults], "warnings": []})
        if match := re.fullmatch(r"/api/models/(.*)/preupload/main", path):
            mode = {True: "lfs", False: "regular"}
            return as_json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": mode[file["path"].endswith(".safetensors")],
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        if path.endswith(".git/info/lfs/objects/batch"):
            wanted = [
                {**thing, "actions": {"upload": {"href": f"{self.url}/stored/{thing['oid']}"}}}
                for thing in json.loads(body)["objects"]
            ]
            return as_json({"objects": wanted, "transfer": "basic"})
        if path.startswith("/stored/"):
            self.stored[hashlib.sha256(body).hexdigest()] = body
            return 200, b"", {}
        if match := re.fullmatch(r"/api/models/(.*)/commit/main", path):
            for line in map(json.loads, body.splitlines()):
                file = line["value"]
                if line["key"] == "file":
                    content = base64.b64decode(file["content"])
                elif line["key"] == "lfsFile":
                    content = self.stored.pop(file["oid"])
                else:
                    continue
                self.repositories[match[1]]["main"][file["path"]] = content
            oid = self.commit("main")
            return as_json(
                {
                    "success": True,
                    "commitOid": oid,
                    "commitUrl": f"{self.url}/{match[1]}/commit/{oid}",
                }
            )
        return 404, b"", {}

    @staticmethod
    def commit(revision: str) -> str:
        return revision.encode().hex().ljust(40, "0")


def as_json(content: Any) -> tuple[int, bytes, dict[str, str]]:
    return 200, json.dumps(content).encode(), {"Content-Type": "application/json"}


def client_environment(hub: Hub, cache: Path) -> dict[str, str]:
    """The environment of a process whose hub is this one; the client reads it when it is
    imported.
    """
    return {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }


WARNED = "warned"
CLIENT = """
import json, sys, warnings, eegdm
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_: "can't be asked" in str(message) and print("warned")
for arguments in json.loads(sys.argv[1]):
    try:
        model = eegdm.load(**arguments)
        print(type(model).__name__, float(sum(p.double().sum() for p in model.state_dict().values())))
    except eegdm.UserError as error:
        print("refused", error)
"""  # noqa: E501


def ask(hub: Hub, cache: Path, requests: list[dict[str, str]], **environment: str) -> list[str]:
    """Load each of the requests in a new process."""
    return run_client(hub, cache, CLIENT, requests, **environment)


def run_client(
    hub: Hub, cache: Path, program: str, arguments: Any, **environment: str
) -> list[str]:
    """Run a program in a process of its own; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(arguments)],
        env=client_environment(hub, cache) | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
