#!/usr/bin/env python3
"""Holds the chart, what is made of it and docs/install.md against what should be true of them. Offline; needs no cluster.

    python3 tests/chart/check.py --probe PROGRAM     the program is asked for its flags, and judges the rendered manifests
    python3 tests/chart/check.py --probe PROGRAM --update     takes over what is rendered now into tests/chart/golden

Every check is a function whose name begins with `check_`, tells what is wrong by `wrong()`, and is told apart in the report.
"""

import argparse
import base64
import copy
import difflib
import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python
import jsonschema
import kubernetes_validate
import yaml
from helm_python import Chart
from kubernetes_validate import utils as kubernetes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "deploy/helm/probe"
GOLDEN = HERE / "golden"
sys.path.insert(0, str(ROOT / "deploy"))
import render  # noqa: E402

RELEASE, NAMESPACE = "latency", "probe"
VERSIONS = [f"1.{minor}" for minor in range(28, 38)]
# Their schemas come with their operators, so they are held against nothing but the golden renders.
OPERATORS = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "Certificate", "Cluster", "PostgresCluster", "postgresql"}
# Keys of the agent's file that the chart sets by variables, or that hold secrets.
CHARTS_OWN = {
    "name", "role", "node", "zone", "region", "listen", "web", "web_token_file", "web_certificate", "web_key",
    "log_format", "event_spool", "insecure_no_auth", "identity.mesh_secret_file", "identity.tls_cert",
    "identity.tls_key", "identity.tls_ca", "identity.tls_server_name", "targets.postgres_url_file",
    "targets.postgres_password_file", "targets.postgres_password_command", "discovery.from",
    "discovery.kubernetes_namespace", "discovery.kubernetes_coderd", "discovery.kubernetes_agents",
    "discovery.no_cloud_metadata",
}  # fmt: skip

# Reading a version's definitions takes longer than everything else together.
kubernetes.schema_contents = functools.cache(kubernetes.schema_contents)

problems = []


def wrong(where, what):
    problems.append(f"{where}: {what}")


def same(where, wanted, found):
    if wanted != found:
        wrong(where, f"{found!r} where {wanted!r} is wanted")


def walk(value, path=""):
    """Every mapping below a value, with the way to it."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, f"{path}[{index}]")


def texts(value):
    """Every text in a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return {text for inner in value for text in texts(inner)}
    return {value} if isinstance(value, str) else set()


@functools.cache
def chart():
    return Chart.load(CHART)


@functools.cache
def cases():
    """The values of each case in ci/."""
    return {
        path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text()) or {}
        for path in sorted((CHART / "ci").glob("*-values.yaml"))
    }


def rendered(values, release=RELEASE, namespace=NAMESPACE):
    return chart().render(values, name=release, namespace=namespace)


class Strict(yaml.SafeLoader):
    """Of a key that is there twice others take the last, and Kubernetes neither."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def objects(templates):
    documents = []
    for path, text in sorted(templates.items()):
        if not path.endswith("NOTES.txt"):
            try:
                documents += [document for document in yaml.load_all(text, Strict) if document]
            except yaml.YAMLError as error:
                wrong(path, f"it is no YAML: {error}")
    return documents


@functools.cache
def case(name):
    """What a case renders to: each template's text, and all objects."""
    templates = rendered(cases()[name])
    return templates, objects(templates)


def pods(documents):
    """Every pod or template of one: the object that it is of, its labels and its spec."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document, document["metadata"].get("labels", {}), document["spec"]
        elif "template" in document.get("spec", {}):
            template = document["spec"]["template"]
            yield document, template["metadata"].get("labels", {}), template["spec"]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def name(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def annotations(document):
    return document["metadata"].get("annotations", {})


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def beside(coder_values, deployment):
    """Coder's Deployment with these values, as Coder's chart takes them: verbatim."""
    deployment = copy.deepcopy(deployment)
    spec, values = deployment["spec"]["template"]["spec"], coder_values["coder"]
    spec["initContainers"] = spec.get("initContainers", []) + values.get("initContainers", [])
    spec["volumes"] = spec.get("volumes", []) + values.get("volumes", [])
    return deployment


@functools.cache
def coders_objects():
    text = (ROOT / "tests/manifests/chart_default/coder.yaml").read_text()
    return [document for document in yaml.safe_load_all(text) if document]


def coders_deployment():
    return next(document for document in coders_objects() if document["kind"] == "Deployment")


def sidecar(case_name="sidecar"):
    """The values for Coder's chart that a case prints."""
    (config,) = [d for d in case(case_name)[1] if d["metadata"]["name"].endswith("-sidecar")]
    return yaml.safe_load(config["data"]["coder-values.yaml"])


def valid(where, document):
    """Against the strict schemas of all versions."""
    if document["kind"] in OPERATORS:
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            wrong(where, f"{name(document)} is no object of Kubernetes {version}: {path}: {error.message[:300]}")
            return
        except kubernetes.SchemaNotFoundError as error:
            wrong(where, error.message)
            return


def restricted(where, spec, only=None):
    """The Pod Security standard «restricted», 1.37; `only` names the containers that are ours."""
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            wrong(where, f"{key} is not restricted")
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
        if not kinds <= allowed:
            wrong(where, f"volume {volume['name']} of kind {kinds} is not restricted")
    if pod.get("sysctls") or pod.get("runAsUser") == 0:
        wrong(where, "sysctls or root in the pod are not restricted")
    for container in containers(spec):
        if only is not None and container["name"] not in only:
            continue
        own, at = container.get("securityContext", {}), f"{where}: container {container['name']}"
        either = {**pod, **own}
        if own.get("privileged") or own.get("procMount", "Default") != "Default":
            wrong(at, "privileged or procMount is not restricted")
        if own.get("allowPrivilegeEscalation") is not False:
            wrong(at, "allowPrivilegeEscalation is not false")
        if "ALL" not in own.get("capabilities", {}).get("drop", []) or own["capabilities"].get("add"):
            wrong(at, "capabilities are not all dropped")
        if either.get("runAsNonRoot") is not True or either.get("runAsUser") == 0:
            wrong(at, "it may run as root")
        if either.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            wrong(at, "there is no seccomp profile")
        if own.get("readOnlyRootFilesystem") is not True:
            wrong(at, "its root can be written to")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            wrong(at, "hostPort is not restricted")


def shape(where, spec):
    """What every pod of ours, and every pod that ours goes into, has to be."""
    names = [port["name"] for container in containers(spec) for port in container.get("ports", [])]
    if len(names) != len(set(names)):
        wrong(where, f"two ports have one name, so a Service takes either: {names}")
    for container in containers(spec):
        if "cpu" in container.get("resources", {}).get("limits", {}):
            wrong(where, f"{container['name']} has a CPU limit")
        if not container.get("resources", {}).get("requests") and container["name"] != "coder":
            wrong(where, f"{container['name']} asks for nothing, so it is evicted first")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    mounts = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", [])}
    same(f"{where}: volumes and what is mounted", volumes, mounts)


def check_schema():
    """Schema and values name the same, and the agent's file has the keys that the agent has."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    same("values.schema.json: $schema", "http://json-schema.org/draft-07/schema#", schema["$schema"])
    for path, node in walk(schema):
        if "properties" in node and isinstance(node["properties"], dict) and node.get("additionalProperties") is not False:
            wrong("values.schema.json", f"{path or 'the root'} takes unknown keys")

    def compare(path, schema, values):
        known = set(schema["properties"]) - ({"global"} if not path else set())
        for key in known ^ set(values):
            wrong("values.schema.json and values.yaml", f"{path}{key} is in one of them only")
        for key in known & set(values):
            inner = schema["properties"][key]
            if "properties" in inner and key not in ("config", "resources"):
                compare(f"{path}{key}.", inner, values[key])

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    compare("", schema, values)
    config = schema["properties"]["config"]["properties"]
    known = {f"{t}.{k}" for t, inner in config.items() for k in inner.get("properties", {})}
    # A key is at the beginning of a line, or of its comment where it has no default.
    section, keys = "", set()
    for line in (ROOT / "deploy/probe.toml").read_text().splitlines():
        if match := re.match(r"\[(\w+)\]", line):
            section = f"{match[1]}."
        elif match := re.match(r"(?:#: )?(\w+) = ", line):
            keys.add(section + match[1])
    same("config of values.schema.json beside deploy/probe.toml", sorted(keys - CHARTS_OWN), sorted(known))
    same("keys that the chart sets itself and the agent does not have", set(), CHARTS_OWN - keys)


def check_lint():
    """Helm's own linter has nothing to say, with the values of any case."""
    for case_name, values in cases().items():
        for message in helm_python.lint(CHART, values, strict=True)["messages"]:
            if message["severity"] > 1:
                wrong(f"helm lint {case_name}", message["error"])


def check_versions():
    """The chart is of the program's version."""
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    same("version of Chart.yaml", version, chart().version)
    same("appVersion of Chart.yaml", version, chart().metadata["appVersion"])


def check_kubernetes():
    """Every object is one to every version of Kubernetes, strictly."""
    seen = set()
    for case_name in cases():
        for document in case(case_name)[1]:
            text = json.dumps(document, sort_keys=True)
            if text not in seen:
                seen.add(text)
                valid(case_name, document)
    valid("sidecar in coderd's pod", beside(sidecar(), coders_deployment()))


def check_pods():
    """Every pod keeps the strictest policy, and stays clear of what would harm coderd or itself."""
    for case_name in cases():
        for document, labels, spec in pods(case(case_name)[1]):
            where = f"{case_name}: {name(document)}"
            restricted(where, spec)
            shape(where, spec)
            same(f"{where}: enableServiceLinks", False, spec.get("enableServiceLinks"))
            if labels["app.kubernetes.io/name"].startswith("coder"):
                wrong(where, "Coder's Service selects it")
            if document["kind"] == "DaemonSet" and "podAffinity" in spec.get("affinity", {}):
                wrong(where, "a DaemonSet with an affinity to pods leaves pods pending on all other nodes")
            if document["kind"] == "Deployment":
                affinity = spec["affinity"]
                required = "requiredDuringSchedulingIgnoredDuringExecution"
                (ours,) = affinity["podAntiAffinity"][required]
                if not selects(ours["labelSelector"]["matchLabels"], labels):
                    wrong(where, "its anti-affinity does not select its own pods")
                (coders,) = affinity["podAffinity"][required]
                wanted = cases()[case_name].get("beside", {}).get("podLabels")
                wanted = wanted or coders_deployment()["spec"]["template"]["metadata"]["labels"]
                if not selects(coders["labelSelector"]["matchLabels"], wanted):
                    wrong(where, "its affinity does not select the pods that it stands beside")
                same(f"{where}: maxSurge", 0, document["spec"]["strategy"]["rollingUpdate"]["maxSurge"])
            if document["kind"] in ("DaemonSet", "Deployment"):
                container = spec["containers"][0]
                same(f"{where}: liveness", "/healthz", container["livenessProbe"]["httpGet"]["path"])
                same(f"{where}: readiness", "/readyz", container["readinessProbe"]["httpGet"]["path"])
                scheme = "HTTPS" if cases()[case_name].get("web", {}).get("tls") else "HTTP"
                same(f"{where}: scheme", scheme, container["readinessProbe"]["httpGet"]["scheme"])


def check_sidecar():
    """A sidecar never keeps coderd from starting, and never takes it out of its Service."""
    values = sidecar()
    (container,) = values["coder"]["initContainers"]
    same("sidecar: restartPolicy", "Always", container["restartPolicy"])
    for probe in ("readinessProbe", "startupProbe", "livenessProbe"):
        if probe in container:
            wrong("sidecar", f"it has a {probe}, which is coderd's pod's as well")
    taken = {8080, 8443, 2112, 6060, 3478, 4317, 4318, 9090, 6222}
    ports = {port["containerPort"] for port in container["ports"]}
    same("sidecar: ports of coderd", set(), ports & taken)
    spec = beside(values, coders_deployment())["spec"]["template"]["spec"]
    restricted("sidecar in coderd's pod", spec, only={container["name"]})
    shape("sidecar in coderd's pod", spec)
    (volume,) = values["coder"]["volumes"]
    # The pod has no fsGroup, and the container is not root.
    same("sidecar: mode of the secret's files", 0o444, volume["projected"]["defaultMode"])
    printed = next(text for path, text in case("sidecar")[0].items() if path.endswith("NOTES.txt"))
    if yaml.safe_dump(container["args"]) and "initContainers:" not in printed:
        wrong("sidecar: NOTES", "they do not print the snippet")
    if kinds := {d["kind"] for d in case("sidecar")[1]} & {"DaemonSet", "Deployment", "Service", "Pod", "Role"}:
        wrong("sidecar", f"there is more than text: {kinds}")


def check_selectors():
    """Whatever selects pods selects the agents and nobody else."""
    for case_name in cases():
        documents = case(case_name)[1]
        everybody = [(name(d), labels) for d, labels, _ in pods(documents)]
        agents = {n for n, _ in everybody if n.startswith(("DaemonSet/", "Deployment/"))}
        for document in documents:
            spec = document.get("spec", {})
            selector = {
                "Service": lambda: spec["selector"],
                "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
                "PodMonitor": lambda: spec["selector"]["matchLabels"],
                "DaemonSet": lambda: spec["selector"]["matchLabels"],
                "Deployment": lambda: spec["selector"]["matchLabels"],
                "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            }.get(document["kind"])
            if selector:
                found = {n for n, labels in everybody if selects(selector(), labels)}
                same(f"{case_name}: {name(document)} selects", agents, found)
            if document["kind"] == "ServiceMonitor":
                (service,) = [d for d in documents if d["kind"] == "Service"]
                if not selects(spec["selector"]["matchLabels"], service["metadata"]["labels"]):
                    wrong(f"{case_name}: ServiceMonitor", "it selects no Service")
            if document["kind"] == "Service":
                same(f"{case_name}: clusterIP", "None", spec["clusterIP"])
                same(f"{case_name}: publishNotReadyAddresses", True, spec["publishNotReadyAddresses"])
                protocols = {port["protocol"] for port in spec["ports"]}
                same(f"{case_name}: protocols of the Service", {"UDP", "TCP"}, protocols)
    network = case("networkpolicy")[1]
    (policy,) = [d["spec"] for d in network if d["kind"] == "NetworkPolicy"]
    for rule in policy["ingress"]:
        for _, labels, _ in pods(network):
            if not any(selects(peer.get("podSelector", {"matchLabels": {"": ""}})["matchLabels"], labels) for peer in rule["from"]):
                wrong("networkpolicy", f"a pod of this release is kept out: {labels}")


def check_names():
    """No pod of ours can be counted as a replica of coderd, however the release is called."""
    for release, wanted in {
        "latency": "latency-probe",
        "probe": "probe",
        "my-probe": "my-probe",
        "coder": "probe-coder",
        "coder-v2": "probe-coder-v2",
        "coder-probe": "probe-coder-probe",
        "a" * 53: "a" * 52,
    }.items():
        documents = objects(rendered({"mode": "daemonset", "preflight": {"enabled": True}}, release))
        (daemonset,) = [d for d in documents if d["kind"] == "DaemonSet"]
        same(f"name of release {release}", wanted, daemonset["metadata"]["name"])
        for document in documents:
            if document["metadata"]["name"].startswith("coder") or len(document["metadata"]["name"]) > 63:
                wrong(f"release {release}", f"{name(document)} is no good name")
    for case_name in cases():
        for document in case(case_name)[1]:
            if document["metadata"]["name"].startswith("coder"):
                wrong(case_name, f"{name(document)} begins with coder")


def check_references():
    """Whatever a pod refers to is made by the chart or was given; a hook's before it."""
    for case_name, values in cases().items():
        documents = case(case_name)[1]
        given = texts(values) | {"default"}
        for document, _, spec in pods(documents):
            hook = annotations(document).get("helm.sh/hook", "")
            is_before = "pre-install" in hook
            weight = lambda d: int(annotations(d).get("helm.sh/hook-weight", "0"))  # noqa: E731
            there = set(given)
            for other in documents:
                is_hook = "helm.sh/hook" in annotations(other)
                comes_first = is_hook and weight(other) < weight(document)
                if (comes_first if is_before else not is_hook) and other["kind"] in ("Secret", "ConfigMap", "ServiceAccount", "Certificate"):
                    there.add(other["spec"]["secretName"] if other["kind"] == "Certificate" else other["metadata"]["name"])
            wanted = {spec.get("serviceAccountName", "default")}
            for path, node in walk(spec.get("volumes", []) + [c.get("env", []) for c in containers(spec)]):
                for key in ("secret", "configMap", "secretKeyRef", "configMapKeyRef"):
                    if isinstance(node.get(key), dict):
                        wanted.add(node[key].get("name") or node[key].get("secretName"))
            for missing in wanted - there:
                wrong(f"{case_name}: {name(document)}", f"nobody makes {missing}")
            asks_api = any("kubernetes" in e.get("value", "") for c in containers(spec) for e in c.get("env", []) if e["name"] == "PROBE_DISCOVER")
            same(f"{case_name}: {name(document)}: the API's token is mounted", asks_api, spec["automountServiceAccountToken"])


def check_rights():
    """Endpoints, and nodes where that was asked for: nothing else, and nothing can be changed."""
    for case_name, values in cases().items():
        for document in case(case_name)[1]:
            where = f"{case_name}: {name(document)}"
            if document["kind"] in ("Role", "ClusterRole"):
                for rule in document["rules"]:
                    same(f"{where}: verbs", ["list", "watch"], rule["verbs"])
                    resources = ["endpointslices"] if document["kind"] == "Role" else ["nodes"]
                    same(f"{where}: resources", resources, rule["resources"])
            if document["kind"].startswith("Cluster") and not values.get("rbac", {}).get("clusterScoped"):
                wrong(where, "it was not asked for")
    spaces = {d["metadata"]["namespace"] for d in case("rbac")[1] if d["kind"] == "RoleBinding"}
    same("namespaces of the RoleBindings where coderd is in another", {"probe", "coder"}, spaces)


def check_preflight():
    """A failed check is not repeated, an inconclusive one is; what fails it is said by the values."""
    (job,) = [d for d in case("preflight")[1] if d["kind"] == "Job"]
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    same("preflight: exit codes", ("FailJob", [1, 2]), (rule["action"], rule["onExitCodes"]["values"]))
    same("preflight: restartPolicy", "Never", job["spec"]["template"]["spec"]["restartPolicy"])
    same("preflight: output-log-policy", "hook-failed", annotations(job)["helm.sh/hook-output-log-policy"])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    same("preflight: the container that the policy names", rule["onExitCodes"]["containerName"], container["name"])
    if "--fail-on=warning" not in container["args"] or "--tcp=db.example.com:5432=postgres" not in container["args"]:
        wrong("preflight", f"arguments {container['args']}")
    same("preflight by default", [], [d for d in case("default")[1] if d["kind"] == "Job"])


def check_secret():
    """A mesh secret is made where none is given: another one each time, of 32 bytes, and kept."""
    made = []
    for _ in range(2):
        (secret,) = [d for d in objects(rendered({})) if d["kind"] == "Secret"]
        made.append(base64.b64decode(secret["data"]["mesh-secret"]).decode())
        same("policy of the secret", "keep", annotations(secret).get("helm.sh/resource-policy"))
    if made[0] == made[1] or not all(re.fullmatch("[0-9a-f]{64}", secret) for secret in made):
        wrong("mesh secret", "it is not 32 random bytes as hex")
    for case_name, values in cases().items():
        is_given = values.get("mesh", {}).get("existingSecret") or values.get("tls")
        secrets = [d for d in case(case_name)[1] if d["kind"] == "Secret"]
        same(f"{case_name}: secrets that are made", 0 if is_given else 1, len(secrets))
    # The library has no cluster to look into, so what `lookup` finds is put in its place.
    with tempfile.TemporaryDirectory(prefix="probe-chart-") as directory:
        copied = Path(shutil.copytree(CHART, Path(directory) / "probe"))
        template = copied / "templates/secret.yaml"
        asked = 'lookup "v1" "Secret" .Release.Namespace $name'
        found = '(dict "data" (dict "mesh-secret" "a2VwdA==" "other" "b3RoZXI="))'
        same("how often it is looked for", 1, template.read_text().count(asked))
        template.write_text(template.read_text().replace(asked, found))
        with Chart.load(copied) as upgraded:
            (secret,) = [d for d in objects(upgraded.render({}, name=RELEASE, namespace=NAMESPACE)) if d["kind"] == "Secret"]
        same("the secret that is there already", {"mesh-secret": "a2VwdA==", "other": "b3RoZXI="}, secret["data"])


def check_monitoring():
    """Alerts and dashboard are those of deploy/, but for what the values say."""
    documents = case("monitoring")[1]
    (rule,) = [d for d in documents if d["kind"] == "PrometheusRule"]
    wanted = []
    for file in ("rules", "alerts"):
        wanted += yaml.safe_load((ROOT / f"deploy/prometheus/{file}.yaml").read_text())["groups"]
    for group in wanted:
        group["rules"] = [r for r in group["rules"] if r.get("alert") != "CoderProbeWorthALook"]
        for alert in group["rules"]:
            if "alert" in alert:
                alert["labels"]["team"] = "platform"
                url = alert["annotations"]["runbook_url"]
                alert["annotations"]["runbook_url"] = url.replace("docs/", "https://docs.example.com/probe/")
    for group, found in zip(wanted, rule["spec"]["groups"], strict=True):
        if group != found:
            wrong("PrometheusRule", f"group {group['name']} is another one: {group} / {found}")
    (config,) = [d for d in documents if d["metadata"]["name"].endswith("-dashboard")]
    board, source = config["data"]["probe.json"], (ROOT / "deploy/grafana/probe.json").read_text()
    base = '": "https://docs.example.com/probe"'
    same("dashboard", json.loads(re.sub(r'(?<="(?:value))": "docs"|(?<="(?:query))": "docs"|(?<="(?:text))": "docs"', base, source)), json.loads(board))
    if base not in board:
        wrong("dashboard", "docsUrl is not in it")


def check_refused():
    """What cannot work is refused in words when it is rendered."""
    for entry in yaml.safe_load((HERE / "refused.yaml").read_text()):
        where = f"refused {json.dumps(entry['values'])}"
        try:
            rendered(entry["values"], entry.get("release", RELEASE))
        except helm_python.HelmError as error:
            for word in entry["words"]:
                if word not in str(error):
                    wrong(where, f"{word!r} is not in: {error}")
            if "hunter2" in str(error).replace(json.dumps(entry["values"]), ""):
                wrong(where, f"the error shows a password: {error}")
        else:
            wrong(where, "it is rendered")
    rendered({"global": {"anything": 1}})


def normal(templates):
    """As it is kept: without what differs each time, and what is a copy of something else."""
    parts = []
    for path, text in sorted(templates.items()):
        text = re.sub(r"(?m)^(  mesh-secret: )[A-Za-z0-9+/]{86}==$", r"\1(made)", text)
        if path.endswith(("dashboard.yaml", "prometheusrule.yaml")):
            text = re.sub(r"(?ms)^(  probe\.json: \||  groups:)\n.*", r"\1 # (check_monitoring)\n", text)
        if text.strip():
            parts.append(f"# {path.removeprefix('probe/')}\n{text.strip()}\n")
    return "\n".join(parts)


def check_golden(update=False):
    """What each case renders to changes by decision."""
    wanted = {f"{case_name}.yaml": normal(case(case_name)[0]) for case_name in cases()}
    for path in GOLDEN.iterdir():
        if path.name not in wanted:
            path.unlink() if update else wrong(f"golden/{path.name}", "there is no such case any more")
    for file, text in wanted.items():
        path = GOLDEN / file
        if update:
            path.write_text(text)
        elif not path.exists():
            wrong(f"golden/{file}", "it is missing: look at the render, and run again with --update")
        elif path.read_text() != text:
            difference = difflib.unified_diff(path.read_text().splitlines(), text.splitlines(), "golden", "rendered", lineterm="", n=1)
            wrong(f"golden/{file}", "\n".join(["it differs; if it should, run again with --update", *list(difference)[:40]]))


def check_products():
    """What is made of the chart is what is in the repository."""
    for path, text in render.products().items():
        if not path.exists() or path.read_text() != text:
            wrong(path.relative_to(ROOT), "it is not what deploy/render.py makes: run that")
    for directory in ("deploy/manifests", "deploy/kustomize/base"):
        found = {path.name for path in (ROOT / directory).iterdir()}
        made = {path.name for path in render.products() if path.parent == ROOT / directory}
        same(f"files in {directory}", made, found)
    for file in ("daemonset", "deployment"):
        text = (ROOT / f"deploy/manifests/{file}.yaml").read_text()
        documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            valid(f"deploy/manifests/{file}.yaml", document)
        kinds = [document["kind"] for document in documents]
        same(f"{file}.yaml", ["ServiceAccount", "Role", "RoleBinding", "Service", kinds[-1]], kinds)
        if "helm" in text.replace("deploy/helm", "").lower():
            wrong(f"{file}.yaml", "it names Helm")
    # A base of nothing but resources is what stands in them.
    base = yaml.safe_load((ROOT / "deploy/kustomize/base/kustomization.yaml").read_text())
    same("kustomization", {"apiVersion", "kind", "namespace", "resources"}, set(base))
    same("resources of the kustomization", ["probe.yaml"], base["resources"])


def check_docs():
    """What docs/install.md shows can be copied: it is rendered and validated as the chart's own."""
    text = (ROOT / "docs/install.md").read_text()
    counts = {"coder": 0, "values": 0, "container": 0}
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        where = f"docs/install.md: «{block.splitlines()[0]}»"
        for document in yaml.safe_load_all(block):
            if not isinstance(document, dict):
                continue
            if "initContainers" in document.get("coder", {}):
                counts["coder"] += 1
                deployment = beside(document, coders_deployment())
                valid(where, deployment)
                spec = deployment["spec"]["template"]["spec"]
                restricted(where, spec, only={c["name"] for c in document["coder"]["initContainers"]})
                shape(where, spec)
            elif block.startswith("# Values of probe"):
                counts["values"] += 1
                for made in objects(rendered(document)):
                    valid(where, made)
            for container in ours(document):
                counts["container"] += 1
                valid(where, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}})
    for kind, count in counts.items():
        if not count:
            wrong("docs/install.md", f"there is no block of kind {kind}")


def ours(value):
    """Every container of the program, wherever it stands."""
    return [node for _, node in walk(value) if "/probe:" in str(node.get("image")) or str(node.get("image")).startswith("probe:")]


def run(program, *arguments, text=""):
    return subprocess.run([program, *arguments], input=text, capture_output=True, text=True, timeout=60, env={"COLUMNS": "200"})


def check_program(program):
    """The program has every flag and reads every variable that the chart and the docs give it."""
    known = {}
    for command in ("agent", "check"):
        text = run(program, command, "--help").stdout
        known[command] = (set(re.findall(r"(--[a-z][-a-z]+)", text)), set(re.findall(r"\[env: (\w+)", text)))
    by_file = {"PROBE_MESH_SECRET", "PROBE_FAIL_ON"}
    found = [(c, container) for c in cases() for container in ours(case(c)[1])]
    found += [("sidecar", container) for container in ours(sidecar())]
    for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/install.md").read_text(), re.DOTALL):
        found += [("docs/install.md", container) for container in ours(list(yaml.safe_load_all(block)))]
    image = (ROOT / "deploy/Dockerfile").read_text()
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", image, re.MULTILINE)[1])
    user = int(re.search(r"^USER (\d+)", image, re.MULTILINE)[1])
    same("podSecurityContext.runAsUser beside the image's", user, chart().values["podSecurityContext"]["runAsUser"])
    for where, container in found:
        same(f"{where}: the program in the image", entry, container.get("command", entry)[:1])
        command, *arguments = container.get("command", entry)[1:] + container.get("args", [])
        flags, variables = known[command]
        for argument in arguments:
            if argument.startswith("--") and argument.split("=")[0] not in flags:
                wrong(where, f"probe {command} has no flag {argument}")
        for variable in container.get("env", []):
            key = variable["name"]
            if key.startswith("PROBE_") and "__" not in key and key not in variables | by_file:
                wrong(where, f"probe {command} does not read {key}")
            if key.startswith("PROBE_") and variable.get("value") == "":
                wrong(where, f"{key} is empty")
    if len(found) < 25:
        wrong("check_program", f"only {len(found)} containers of the program were found")


def check_manifests(program):
    """Our own static check finds the same in Coder's deployment with the chart beside or inside it, and takes none of ours for coderd."""

    def judged(documents):
        result = run(program, "check", "--manifests", "-", "-o", "json", text=yaml.safe_dump_all(documents))
        try:
            report = json.loads(result.stdout)
        except json.JSONDecodeError:
            return {"error": result.stdout + result.stderr}
        parts = [(part["resource"], part["role"]) for part in report["parts"]]
        return {"parts": parts, "verdict": report["verdict"], "findings": report["findings"], "unreadable": report["unreadable"]}

    good = [d for path in ("coder.yaml", "network.yml") for d in yaml.safe_load_all((ROOT / "tests/manifests/good" / path).read_text()) if d]
    alone = judged(good)
    if not alone.get("parts"):
        wrong("probe check --manifests", f"no coderd in tests/manifests/good: {alone}")
    for case_name, values in cases().items():
        beside_coder = objects(rendered(values, namespace="coder"))
        same(f"{case_name}: probe check --manifests beside coderd", alone, judged(good + beside_coder))
    coder = coders_objects()
    with_sidecar = [beside(sidecar(), d) if d["kind"] == "Deployment" else d for d in coder]
    same("sidecar: probe check --manifests", judged(coder), judged(with_sidecar))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probe", required=True, help="the program under test")
    parser.add_argument("--update", action="store_true", help="take over what is rendered now")
    parser.add_argument("--only", help="run this check alone")
    asked = parser.parse_args()
    failed = 0
    for key, check in list(globals().items()):
        if not key.startswith("check_") or asked.only not in (None, key.removeprefix("check_")):
            continue
        before = len(problems)
        arguments = [asked.probe] if key in ("check_program", "check_manifests") else []
        try:
            check(update=asked.update) if key == "check_golden" else check(*arguments)
        except Exception as error:  # noqa: BLE001 - a check that breaks has failed, and the others still tell
            wrong(key, f"{type(error).__name__}: {error}")
        is_good = len(problems) == before
        failed += not is_good
        print(f"{'ok  ' if is_good else 'FAIL'} {key.removeprefix('check_')}: {check.__doc__}")
        for problem in problems[before:]:
            print("     " + problem.replace("\n", "\n     "))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
