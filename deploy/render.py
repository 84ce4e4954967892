#!/usr/bin/env python3
"""Writes what is made of something else, each from its one source:

- the chart's files/ from deploy/prometheus and deploy/grafana,
- deploy/manifests and deploy/kustomize/base from the chart's defaults,
- the table of values in docs/install.md from the chart's values.yaml.

`python3 deploy/render.py` writes; tests/chart/check.py fails where a file differs. It needs what tests/chart/requirements.txt names.
"""

import json
import re
import sys
from pathlib import Path

import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/probe"
COPIES = {
    CHART / "files/alerts.yaml": ROOT / "deploy/prometheus/alerts.yaml",
    CHART / "files/rules.yaml": ROOT / "deploy/prometheus/rules.yaml",
    CHART / "files/probe.json": ROOT / "deploy/grafana/probe.json",
}
NAMESPACE = "coder"
SECRET = "probe-mesh"
# Helm's own labels mean nothing without Helm.
HELMS = re.compile(r"^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)
HEAD = f"""\
# Made from deploy/helm/probe by deploy/render.py: change the chart, not this file.
# {{what}}
# The image is called probe:{{version}}; say where yours is. The mesh secret is made once, by hand:
#   kubectl -n {NAMESPACE} create secret generic {SECRET} --from-literal=mesh-secret="$(openssl rand -hex 32)"
"""
KUSTOMIZATION = f"""\
# Made from deploy/helm/probe by deploy/render.py. An overlay sets what differs:
#   resources: [../../base]
#   namespace: {NAMESPACE}
#   images: [{{{{name: probe, newName: registry.example.com/probe, newTag: {{version}}}}}}]
# It needs the Secret {SECRET}; probe.yaml says how it is made.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {NAMESPACE}
resources:
  - probe.yaml
"""
BEGIN, END = "<!-- values -->\n", "<!-- /values -->\n"


def documents(text):
    """The YAML documents of a rendered template, as text."""
    parts = re.split(r"^---\n", text, flags=re.MULTILINE)
    return [part.strip("\n") + "\n" for part in parts if yaml.safe_load(part)]


def plain(chart, what, values):
    """The chart without Helm: no hooks, and no secret, since a rendered one would be everybody's."""
    values = {"mesh": {"existingSecret": SECRET}, "tests": {"enabled": False}, **values}
    rendered = chart.render(values, name="probe", namespace=NAMESPACE)
    parts = [
        part
        for path, text in sorted(rendered.items())
        if not path.endswith("NOTES.txt")
        for part in documents(text)
    ]
    # Who runs as somebody comes after that somebody.
    order = ["ServiceAccount", "Role", "RoleBinding", "Service", "DaemonSet", "Deployment"]
    parts.sort(key=lambda part: order.index(yaml.safe_load(part)["kind"]))
    head = HEAD.format(what=what, version=chart.metadata["appVersion"])
    return head + "---\n" + HELMS.sub("", "---\n".join(parts))


def table(text):
    """Each value with its default and its comment, in the order of values.yaml."""
    values = yaml.safe_load(text)
    rows, path, comment = [], [], []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            comment = []
        elif stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#"):
            if comment:
                comment.append(stripped.removeprefix("#").strip())
        elif match := re.match(r"^( *)([A-Za-z]+):", line):
            depth = len(match[1]) // 2
            path = [*path[:depth], match[2]]
            if comment:
                value = values
                for key in path:
                    value = value[key]
                default = json.dumps(value, ensure_ascii=False).replace("|", "\\|")
                rows.append(f"| `{'.'.join(path)}` | `{default}` | {' '.join(comment)} |\n")
            comment = []
    return "| value | default | |\n|---|---|---|\n" + "".join(rows)


def products():
    """Every file that is made, with the text that it has to have."""
    made = {copy: source.read_text() for copy, source in COPIES.items()}
    with Chart.load(CHART) as chart:
        daemonset = plain(chart, "An agent on each node.", {})
        made[ROOT / "deploy/manifests/daemonset.yaml"] = daemonset
        made[ROOT / "deploy/manifests/deployment.yaml"] = plain(
            chart, "An agent on each node of coderd; as many as coderd has replicas.", {"mode": "deployment"}
        )
        version = chart.metadata["appVersion"]
    made[ROOT / "deploy/kustomize/base/probe.yaml"] = daemonset
    made[ROOT / "deploy/kustomize/base/kustomization.yaml"] = KUSTOMIZATION.format(version=version)
    install = ROOT / "docs/install.md"
    text = install.read_text()
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"docs/install.md has no place for the table of values: {BEGIN.strip()} and {END.strip()}")
    made[install] = before + BEGIN + table((CHART / "values.yaml").read_text()) + END + after
    return made


def main():
    # The chart is read with its copies, so they come first.
    for copy, source in COPIES.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    for path, text in products().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            print(path.relative_to(ROOT))
            path.write_text(text)


if __name__ == "__main__":
    main()
