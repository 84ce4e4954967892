{{/*
What goes into Coder's own values. It has no readiness and no startup probe: a sidecar's readiness is its pod's, and a latency tool
must never take coderd out of its Service or keep it from starting. It has no liveness probe either, since a restart counts as well.
Its ports have names of their own: Coder's Service looks for a port called http in all containers of the pod.
*/}}
{{- define "probe.sidecarValues" -}}
{{- $v := .Values -}}
coder:
  initContainers:
    - name: probe
      image: {{ include "probe.image" . | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      restartPolicy: Always
      args:
        - agent
        - --role=coderd
        {{- with $v.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        {{- include "probe.downwardEnv" . | nindent 8 }}
        - {name: CONTAINER_NAME, value: probe}
        {{- if $v.database.existingSecret }}
        - name: CODER_PG_CONNECTION_URL
          valueFrom: {secretKeyRef: {name: {{ $v.database.existingSecret }}, key: {{ $v.database.key | quote }}}}
        {{- end }}
        {{- include "probe.identityEnv" . | nindent 8 }}
        - {name: PROBE_WEB, value: {{ $v.web.address | quote }}}
        {{- if $v.web.token.existingSecret }}
        - {name: PROBE_WEB_TOKEN_FILE, value: /etc/probe/credentials/web-token}
        {{- end }}
        - {name: PROBE_LOG_FORMAT, value: {{ $v.logFormat | quote }}}
        {{- if $v.otlp.endpoint }}
        - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ $v.otlp.endpoint | quote }}}
        - {name: OTEL_EXPORTER_OTLP_PROTOCOL, value: {{ $v.otlp.protocol | quote }}}
        {{- end }}
        {{- with $v.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $v.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: probe-echo, containerPort: 9862, protocol: UDP}
        - {name: probe-http, containerPort: {{ include "probe.webPort" . }}, protocol: TCP}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- with $v.securityContext }}
      securityContext:
        {{- /* All that it needs, since nothing is known of the pod's own. */}}
        {{- $own := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") }}
        {{- toYaml (merge (dict) . (omit $v.podSecurityContext "fsGroup") $own) | nindent 8 }}
      {{- end }}
      {{- with $v.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: probe, mountPath: /etc/probe/credentials, readOnly: true}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: probe
      projected:
        # Coder's pods have no fsGroup, so the files are root's: all in this container may read them.
        defaultMode: 0444
        sources:
          {{- include "probe.identitySources" . | nindent 10 }}
          {{- if $v.web.token.existingSecret }}
          {{- include "probe.webTokenSources" . | nindent 10 }}
          {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
