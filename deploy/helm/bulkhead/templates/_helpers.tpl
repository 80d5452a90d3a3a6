{{/* The configuration, with what the manifests depend on. */}}
{{- define "bulkhead.config" -}}
[server]
listen = "0.0.0.0:8080"
probe_listen = "0.0.0.0:8081"

[state]
dir = "/var/lib/bulkhead"
aot_seed = "/usr/local/lib/bulkhead/aot"

[engine]
cpu = "x86-64-v2"

[limits]
drain_ms = {{ mul (int .Values.drainSeconds) 1000 }}

{{ if .Values.lease.enabled -}}
[lease]
name = {{ .Release.Name | quote }}
ttl_ms = {{ int .Values.lease.ttlMs }}

{{ end -}}
{{ .Values.config }}
{{- end }}

{{/* The names of the Service, and those of the values. */}}
{{- define "bulkhead.hosts" -}}
{{- $name := .Release.Name -}}
{{- $all := list $name (printf "%s.$(NAMESPACE)" $name) (printf "%s.$(NAMESPACE).svc" $name) (printf "%s.$(NAMESPACE).svc.cluster.local" $name) -}}
{{- join "," (concat $all .Values.allowedHosts) -}}
{{- end }}

{{/* The grace: a pod that is killed in its drain loses what agents have not saved. */}}
{{- define "bulkhead.grace" -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add (int .Values.drainSeconds) 5) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d: it has to be at least drainSeconds (%d) and 5 s" (int .Values.terminationGracePeriodSeconds) (int .Values.drainSeconds)) -}}
{{- end -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end }}
