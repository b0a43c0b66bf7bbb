"""Installs the chart with Helm's own library against a stand-in for the Kubernetes API.

    helm.py LIBRARY CHART < QUESTION

QUESTION is JSON: {"release", "namespace", "values", "apis": ["GROUP/VERSION/Kind", ..]}. Printed is
JSON: {"objects": [..], "notes": ".."} with every object as Helm sent it, in its order, or
{"error": ".."}; with "lint": true the findings of `helm lint`.

What is real: Helm 4 (the Go library in the PyPI package helm-sdkpy), its templates, values schema,
NOTES and capabilities. What is not: the API server below knows discovery, answers "not found" to
every read and accepts every write; it checks nothing.
"""

import ctypes
import json
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Kinds that every cluster has, as far as the chart needs them.
CORE = {
    "v1": ["Namespace", "ServiceAccount", "Service", "ConfigMap", "Secret", "Pod"],
    "apps/v1": ["StatefulSet", "Deployment", "ReplicaSet"],
    "policy/v1": ["PodDisruptionBudget"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
}


def plural(kind):
    lower = kind.lower()
    if lower.endswith("y"):
        return lower[:-1] + "ies"
    return lower + ("es" if lower.endswith("s") else "s")


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kinds = {}
    written = []

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def missing(self):
        self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        groups = sorted({name.split("/")[0] for name in self.kinds if "/" in name})
        if path == "version":
            self.answer(200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        elif path == "api":
            self.answer(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif path == "apis":
            self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self.group(name) for name in groups]})
        elif path.removeprefix("apis/").removeprefix("api/") in self.kinds:
            self.resources(path.removeprefix("apis/").removeprefix("api/"))
        elif path.endswith("/secrets"):
            self.answer(200, {"kind": "SecretList", "apiVersion": "v1", "items": []})
        else:
            self.missing()

    def group(self, name):
        versions = [{"groupVersion": full, "version": full.split("/")[1]} for full in self.kinds if full.startswith(name + "/")]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def resources(self, version):
        resources = [
            {"name": plural(kind), "singularName": kind.lower(), "namespaced": kind != "Namespace", "kind": kind,
             "verbs": ["create", "delete", "get", "list", "patch", "update"]}
            for kind in self.kinds[version]
        ]
        self.answer(200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})

    def write(self):
        length = int(self.headers.get("content-length", 0))
        data = self.rfile.read(length)
        if "protobuf" in self.headers.get("content-type", ""):
            # The record of the release, the only thing that Helm does not send as JSON.
            body = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "release"}}
        else:
            body = json.loads(data)
            self.written.append(body)
        self.answer(201 if self.command == "POST" else 200, body)

    do_POST = do_PUT = do_PATCH = write


def kinds_of(apis):
    kinds = {version: list(names) for version, names in CORE.items()}
    for api in apis:
        version, kind = api.rsplit("/", 1)
        kinds.setdefault(version, []).append(kind)
    return kinds


class Helm:
    def __init__(self, library):
        self.library = ctypes.CDLL(library)
        self.library.helm_sdkpy_last_error.restype = ctypes.c_void_p

    def call(self, name, *arguments):
        if getattr(self.library, "helm_sdkpy_" + name)(*arguments) == 0:
            return None
        text = ctypes.cast(self.library.helm_sdkpy_last_error(), ctypes.c_char_p).value
        return text.decode()

    def configure(self, namespace, kubeconfig):
        handle = ctypes.c_uint64()
        words = [word.encode() for word in (namespace, kubeconfig, "", "{}")]
        error = self.call("config_create", *words, ctypes.byref(handle))
        if error:
            raise SystemExit("error: " + error)
        return handle

    def install(self, handle, question, chart):
        result = ctypes.c_char_p()
        options = {"wait": False, "timeout_seconds": 60, "disable_openapi_validation": True, "server_side_apply": "false"}
        words = (question["release"], chart, json.dumps(question["values"]), "", json.dumps(options))
        error = self.call("install", handle, *[word.encode() for word in words], ctypes.byref(result))
        return error, json.loads(result.value) if result.value else {}

    def lint(self, handle, chart):
        result = ctypes.c_char_p()
        error = self.call("lint", handle, chart.encode(), ctypes.byref(result))
        return {"error": error} if error else {"lint": json.loads(result.value)}


def kubeconfig(folder, port):
    path = os.path.join(folder, "config")
    with open(path, "w") as file:
        json.dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }, file)
    return path


def main():
    library, chart = sys.argv[1:]
    question = json.load(sys.stdin)
    Api.kinds = kinds_of(question.get("apis", []))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HOME=folder, HELM_CACHE_HOME=folder, HELM_CONFIG_HOME=folder, HELM_DATA_HOME=folder)
        helm = Helm(library)
        handle = helm.configure(question["namespace"], kubeconfig(folder, server.server_port))
        if question.get("lint"):
            answer = helm.lint(handle, chart)
        else:
            error, result = helm.install(handle, question, chart)
            answer = {"error": error} if error else {"objects": Api.written, "result": result}
    print(json.dumps(answer))
    sys.stdout.flush()
    # Go's threads do not end by themselves.
    os._exit(0)


main()
