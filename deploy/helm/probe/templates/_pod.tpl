{{/* What a pod is told of itself. On clusters before 1.35 the last two are empty, which is as if they were not there. */}}
{{- define "probe.downwardEnv" -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- name: POD_REGION
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/region']"}}
- name: POD_ZONE
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
{{- end -}}

{{/* Who we are in the mesh. */}}
{{- define "probe.identityEnv" -}}
{{- if eq .Values.tls.mode "meshSecret" -}}
- {name: PROBE_MESH_SECRET_FILE, value: /etc/probe/credentials/mesh-secret}
{{- else -}}
- {name: PROBE_TLS_CERT, value: /etc/probe/credentials/tls.crt}
- {name: PROBE_TLS_KEY, value: /etc/probe/credentials/tls.key}
- {name: PROBE_TLS_CA, value: /etc/probe/credentials/ca.crt}
- {name: PROBE_TLS_SERVER_NAME, value: {{ .Values.tls.serverName | quote }}}
{{- end -}}
{{- end -}}

{{/* Which database is measured. */}}
{{- define "probe.databaseEnv" -}}
- {name: PROBE_POSTGRES_URL_FILE, value: /etc/probe/credentials/postgres-url}
{{- if .Values.database.passwordKey }}
- {name: PROBE_POSTGRES_PASSWORD_FILE, value: /etc/probe/credentials/postgres-password}
{{- else if .Values.database.passwordFile }}
- {name: PROBE_POSTGRES_PASSWORD_FILE, value: {{ .Values.database.passwordFile | quote }}}
{{- end }}
{{- end -}}

{{/* Where Kubernetes is asked for whom. */}}
{{- define "probe.kubernetesEnv" -}}
- {name: PROBE_KUBERNETES_AGENTS, value: {{ include "probe.fullname" . | quote }}}
- {name: PROBE_KUBERNETES_CODERD, value: {{ include "probe.coderdService" . | quote }}}
{{- end -}}

{{/* The variables of an agent in a pod of its own. */}}
{{- define "probe.agentEnv" -}}
{{- $v := .Values -}}
{{- $sources := concat (ternary (list "kubernetes") list $v.discovery.kubernetes) $v.discovery.extra -}}
{{- if and $v.database.existingSecret $v.database.discover -}}
{{- $sources = append $sources "coder" -}}
{{- end -}}
{{ include "probe.downwardEnv" . }}
- {name: CONTAINER_NAME, value: probe}
- {name: PROBE_DISCOVER, value: {{ join "," $sources | default "none" | quote }}}
{{- if $v.discovery.kubernetes }}
{{ include "probe.kubernetesEnv" . }}
{{- end }}
{{- if not $v.discovery.cloudMetadata }}
- {name: PROBE_NO_CLOUD_METADATA, value: "true"}
{{- end }}
{{ include "probe.identityEnv" . }}
{{- if $v.database.existingSecret }}
{{ include "probe.databaseEnv" . }}
{{- end }}
- {name: PROBE_WEB, value: {{ $v.web.address | quote }}}
{{- if $v.web.token.existingSecret }}
- {name: PROBE_WEB_TOKEN_FILE, value: /etc/probe/credentials/web-token}
{{- end }}
{{- if $v.web.tls.existingSecret }}
- {name: PROBE_WEB_CERTIFICATE, value: /etc/probe/credentials/web.crt}
- {name: PROBE_WEB_KEY, value: /etc/probe/credentials/web.key}
{{- end }}
- {name: PROBE_LOG_FORMAT, value: {{ $v.logFormat | quote }}}
{{- if $v.config }}
- {name: PROBE_CONFIG, value: /etc/probe/config/probe.toml}
{{- end }}
{{- if $v.otlp.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ $v.otlp.endpoint | quote }}}
- {name: OTEL_EXPORTER_OTLP_PROTOCOL, value: {{ $v.otlp.protocol | quote }}}
{{- end }}
{{- if $v.otlp.spool }}
- {name: PROBE_EVENT_SPOOL, value: /var/lib/probe/events}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The sources of the identity's files. */}}
{{- define "probe.identitySources" -}}
{{- if eq .Values.tls.mode "meshSecret" -}}
- secret:
    name: {{ include "probe.meshSecretName" . }}
    items: [{key: {{ .Values.mesh.key | quote }}, path: mesh-secret}]
{{- else -}}
- secret:
    name: {{ include "probe.tlsSecretName" . }}
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      - {key: ca.crt, path: ca.crt}
{{- end -}}
{{- end -}}

{{- define "probe.databaseSources" -}}
- secret:
    name: {{ .Values.database.existingSecret }}
    items:
      - {key: {{ .Values.database.key | quote }}, path: postgres-url}
      {{- if .Values.database.passwordKey }}
      - {key: {{ .Values.database.passwordKey | quote }}, path: postgres-password}
      {{- end }}
{{- end -}}

{{- define "probe.webTokenSources" -}}
- secret:
    name: {{ .Values.web.token.existingSecret }}
    items: [{key: {{ .Values.web.token.key | quote }}, path: web-token}]
{{- end -}}

{{/* The pod of an agent, for a DaemonSet or a Deployment. */}}
{{- define "probe.podTemplate" -}}
{{- $v := .Values -}}
metadata:
  labels:
    {{- include "probe.labels" . | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: probe
    {{- if $v.scrapeAnnotations }}
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ include "probe.webPort" . | quote }}
    prometheus.io/path: /metrics
    {{- end }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "probe.serviceAccountName" . }}
  automountServiceAccountToken: {{ $v.discovery.kubernetes }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: probe
      image: {{ include "probe.image" . | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        - agent
        {{- with $v.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- include "probe.agentEnv" . | nindent 8 }}
      {{- with $v.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: probe-echo, containerPort: 9862, protocol: UDP}
        - {name: probe-http, containerPort: {{ include "probe.webPort" . }}, protocol: TCP}
      livenessProbe:
        httpGet: {path: /healthz, port: probe-http, scheme: {{ include "probe.webScheme" . }}}
        {{- with $v.livenessProbe }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      readinessProbe:
        httpGet: {path: /readyz, port: probe-http, scheme: {{ include "probe.webScheme" . }}}
        {{- with $v.readinessProbe }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- with $v.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $v.resources }}
      # No CPU limit: throttling an agent makes it see latencies that nobody else has.
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: credentials, mountPath: /etc/probe/credentials, readOnly: true}
        {{- if $v.config }}
        - {name: config, mountPath: /etc/probe/config, readOnly: true}
        {{- end }}
        {{- if $v.otlp.spool }}
        - {name: spool, mountPath: /var/lib/probe}
        {{- end }}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: credentials
      projected:
        defaultMode: 0440
        sources:
          {{- include "probe.identitySources" . | nindent 10 }}
          {{- if $v.database.existingSecret }}
          {{- include "probe.databaseSources" . | nindent 10 }}
          {{- end }}
          {{- if $v.web.token.existingSecret }}
          {{- include "probe.webTokenSources" . | nindent 10 }}
          {{- end }}
          {{- if $v.web.tls.existingSecret }}
          - secret:
              name: {{ $v.web.tls.existingSecret }}
              items:
                - {key: tls.crt, path: web.crt}
                - {key: tls.key, path: web.key}
          {{- end }}
    {{- if $v.config }}
    - name: config
      configMap:
        name: {{ include "probe.fullname" . }}
    {{- end }}
    {{- if $v.otlp.spool }}
    - name: spool
      emptyDir: {sizeLimit: 64Mi}
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
