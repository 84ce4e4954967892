{{/* The name in labels. */}}
{{- define "probe.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- if hasPrefix "coder" $name -}}
{{- fail (printf "nameOverride: %q begins with \"coder\", so Coder's Service and alerts may take these pods for coderd: choose another name" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/*
The name of all objects. coder/observability counts pods named coder.* as replicas of coderd, so none of ours may begin so: what
was asked for by name is refused, what comes of the release's name is prefixed. 52 signs leave room for suffixes.
*/}}
{{- define "probe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- if hasPrefix "coder" .Values.fullnameOverride -}}
{{- fail (printf "fullnameOverride: %q begins with \"coder\", so Coder's alerts would count these pods as replicas of coderd: choose another name" .Values.fullnameOverride) -}}
{{- end -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "probe.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- if hasPrefix "coder" $full -}}
{{- $full = ternary (printf "%s-%s" $name .Release.Name) (printf "%s-%s" $name $full) (eq $full (printf "%s-%s" .Release.Name $name)) -}}
{{- end -}}
{{- $full | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "probe.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Immutable, and never Coder's. */}}
{{- define "probe.selectorLabels" -}}
app.kubernetes.io/name: {{ include "probe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "probe.labels" -}}
{{ include "probe.commonLabels" . }}
{{ include "probe.selectorLabels" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{/* Pods that are no agents: the Service, monitors and policies must not select them. */}}
{{- define "probe.checkLabels" -}}
app.kubernetes.io/name: {{ include "probe.name" . }}-check
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "probe.commonLabels" -}}
helm.sh/chart: {{ include "probe.chart" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: probe
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "probe.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "probe.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "probe.image" -}}
{{- $image := .Values.image -}}
{{- $repository := ternary (printf "%s/%s" (trimSuffix "/" $image.registry) $image.repository) $image.repository (ne $image.registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "probe.meshSecretName" -}}
{{- default (printf "%s-mesh" (include "probe.fullname" .)) .Values.mesh.existingSecret -}}
{{- end -}}

{{- define "probe.tlsSecretName" -}}
{{- ternary (printf "%s-tls" (include "probe.fullname" .)) .Values.tls.existingSecret (eq .Values.tls.mode "certManager") -}}
{{- end -}}

{{- define "probe.coderdNamespace" -}}
{{- default .Release.Namespace .Values.coderd.namespace -}}
{{- end -}}

{{/* coderd's service as the agent takes it. */}}
{{- define "probe.coderdService" -}}
{{- if and .Values.coderd.namespace (ne .Values.coderd.namespace .Release.Namespace) -}}
{{- printf "%s/%s" .Values.coderd.namespace .Values.coderd.service -}}
{{- else -}}
{{- .Values.coderd.service -}}
{{- end -}}
{{- end -}}

{{/* Whether agents run in pods of their own. */}}
{{- define "probe.hasWorkload" -}}
{{- if ne .Values.mode "sidecar" }}true{{ end -}}
{{- end -}}

{{/* The port of `web.address`. */}}
{{- define "probe.webPort" -}}
{{- regexFind "[0-9]+$" .Values.web.address -}}
{{- end -}}

{{- define "probe.webScheme" -}}
{{- ternary "HTTPS" "HTTP" (ne .Values.web.tls.existingSecret "") -}}
{{- end -}}

{{/* Combinations that cannot work, each refused in words; included by every workload and by NOTES. */}}
{{- define "probe.validate" -}}
{{- $v := .Values -}}
{{- $ignored := include "probe.fullname" . -}}
{{- range $where, $labels := dict "podLabels" $v.podLabels "commonLabels" $v.commonLabels -}}
{{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if hasKey $labels $key -}}
{{- fail (printf "%s: %s is the chart's own label, by which Services select pods: use another key" $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (ne $v.tls.mode "meshSecret") $v.mesh.existingSecret -}}
{{- fail (printf "mesh.existingSecret and tls.mode %q are both given, and an agent has one identity: use one or the other" $v.tls.mode) -}}
{{- end -}}
{{- if and (eq $v.tls.mode "existingSecret") (not $v.tls.existingSecret) -}}
{{- fail "tls.existingSecret is empty: name the Secret with tls.crt, tls.key and ca.crt, or use tls.mode meshSecret" -}}
{{- end -}}
{{- if and (ne $v.tls.mode "existingSecret") $v.tls.existingSecret -}}
{{- fail (printf "tls.existingSecret is given, but tls.mode is %q: set tls.mode to existingSecret" $v.tls.mode) -}}
{{- end -}}
{{- if and (eq $v.tls.mode "certManager") (not $v.tls.certManager.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name is empty: name the issuer of the agents' certificates" -}}
{{- end -}}
{{- if and (eq $v.mode "daemonset") (eq $v.database.existingSecret "coder-db-url") -}}
{{- fail "database.existingSecret: coder-db-url is Coder's own, whose role owns all tables; a DaemonSet would bring it to every node. Make a Secret of a least-privilege role (docs/discovery.md), or use mode sidecar" -}}
{{- end -}}
{{- if and $v.database.passwordKey $v.database.passwordFile -}}
{{- fail "database.passwordKey and database.passwordFile are both given: use one or the other" -}}
{{- end -}}
{{- if and (or $v.database.passwordKey $v.database.passwordFile) (not $v.database.existingSecret) -}}
{{- fail "database.existingSecret is empty: a password needs the connection string that it goes with" -}}
{{- end -}}
{{- if or (hasPrefix "127." $v.web.address) (hasPrefix "[::1]" $v.web.address) -}}
{{- fail (printf "web.address: neither the kubelet nor Prometheus reaches %s: use [::]:9863, or 0.0.0.0:9863 where nodes have no IPv6" $v.web.address) -}}
{{- end -}}
{{- if and $v.preflight.enabled $v.database.passwordFile -}}
{{- fail "preflight.enabled: the Job has no container that writes database.passwordFile: use an init container of coderd or a step of CI (docs/install.md)" -}}
{{- end -}}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled -}}
{{- fail "podMonitor.enabled and serviceMonitor.enabled are both true, so every agent would be scraped twice: use one" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled (eq $v.mode "sidecar") -}}
{{- fail "serviceMonitor.enabled: in mode sidecar there is no Service of the agents: use podMonitor" -}}
{{- end -}}
{{- if and $v.affinity (eq $v.mode "deployment") (not (dig "podAntiAffinity" "requiredDuringSchedulingIgnoredDuringExecution" false $v.affinity)) -}}
{{- fail "affinity: mode deployment needs a required podAntiAffinity, so that there is one agent a node: add it, or leave affinity empty" -}}
{{- end -}}
{{- if and (or $v.beside.podLabels $v.beside.namespace) (ne $v.mode "deployment") -}}
{{- fail (printf "beside: mode %q stands where it stands: use mode deployment" $v.mode) -}}
{{- end -}}
{{- if eq $v.mode "sidecar" -}}
{{- range $key, $isGiven := dict "web.tls.existingSecret" $v.web.tls.existingSecret "database.passwordKey" $v.database.passwordKey "database.passwordFile" $v.database.passwordFile "otlp.spool" $v.otlp.spool "networkPolicy.enabled" $v.networkPolicy.enabled "extraInitContainers" $v.extraInitContainers -}}
{{- if $isGiven -}}
{{- fail (printf "%s: mode sidecar has no pods of its own to do this with: put it into Coder's values" $key) -}}
{{- end -}}
{{- end -}}
{{- if or (omit $v.config "targets") (and $v.config (not $v.preflight.enabled)) -}}
{{- fail "config: mode sidecar makes no file: give variables by extraEnv, as PROBE_BUDGETS__PROXY for budgets.proxy" -}}
{{- end -}}
{{- end -}}
{{- if and $v.database.existingSecret $v.database.discover (dig "targets" "postgres" list $v.config) -}}
{{- fail "config.targets.postgres and database.existingSecret are both given, and Coder's tables are in one database: use one, or set database.discover to false" -}}
{{- end -}}
{{- if and $v.preflight.enabled (dig "targets" "peer" list $v.config) (not $v.mesh.existingSecret) (not $v.tls.existingSecret) -}}
{{- fail "preflight.enabled: config.targets.peer needs an identity, and a secret that the chart makes is not there before an install: give mesh.existingSecret" -}}
{{- end -}}
{{- if and (has "coder" $v.preflight.discover) (not $v.database.existingSecret) $v.preflight.enabled -}}
{{- fail "preflight.discover: coder needs database.existingSecret" -}}
{{- end -}}
{{- end -}}
