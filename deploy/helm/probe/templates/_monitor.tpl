{{/* One endpoint of a PodMonitor or ServiceMonitor: a list of the root and the monitor's values. */}}
{{- define "probe.monitorEndpoint" -}}
{{- $root := index . 0 -}}
{{- $v := index . 1 -}}
- port: probe-http
  path: /metrics
  interval: {{ $v.interval }}
  {{- if $root.Values.web.tls.existingSecret }}
  scheme: https
  # It is asked at the pod's address, which no certificate names.
  tlsConfig: {insecureSkipVerify: true}
  {{- end }}
  {{- if $root.Values.web.token.existingSecret }}
  authorization:
    credentials:
      name: {{ $root.Values.web.token.existingSecret }}
      key: {{ $root.Values.web.token.key }}
  {{- end }}
  {{- with $v.relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
