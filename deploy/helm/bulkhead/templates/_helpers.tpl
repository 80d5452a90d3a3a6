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
{{- if ne .Values.lease.register "kubernetes" }}
register = {{ .Values.lease.register | quote }}
{{- end }}
name = {{ .Release.Name | quote }}
ttl_ms = {{ int .Values.lease.ttlMs }}
{{- include "bulkhead.keys" .Values.lease }}

{{ end -}}
{{ if .Values.ship.to -}}
[ship]
to = {{ .Values.ship.to | quote }}
{{- include "bulkhead.keys" .Values.ship }}

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

{{/* Keys of [lease] or [ship]. A secret among them would be in the release's history, and in a ConfigMap. */}}
{{- define "bulkhead.keys" -}}
{{- range $key, $value := .options }}
{{- if has $key (list "password" "token" "secret_access_key") -}}
{{- fail (printf "%s is a secret: put it into the Secret of engineSecret, and %s_file into files" $key $key) -}}
{{- end }}
{{ $key }} = {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ $value }}{{ end }}
{{- end }}
{{- range $key, $file := .files }}
{{ $key }} = {{ printf "/run/secrets/engine/%s" $file | quote }}
{{- end }}
{{- end }}

{{/* Whether copies speak to the API server. */}}
{{- define "bulkhead.asksKubernetes" -}}
{{- if and .Values.lease.enabled (eq .Values.lease.register "kubernetes") }}true{{ end -}}
{{- end }}

{{/* What contradicts itself. Renders nothing. */}}
{{- define "bulkhead.check" -}}
{{- if and .Values.ship.to (not .Values.lease.enabled) -}}
{{- fail "ship.to needs lease.enabled: one copy of the town ships at a time" -}}
{{- end -}}
{{- if and .Values.lease.enabled (lt (int .Values.lease.copies) 2) -}}
{{- fail (printf "lease.copies is %d: a lease is between two copies or more" (int .Values.lease.copies)) -}}
{{- end -}}
{{- if and .Values.lease.enabled (not (regexMatch "^(kubernetes|(nats|tls|etcd|etcds|s3)://.+)$" .Values.lease.register)) -}}
{{- fail (printf "lease.register is %s: it is kubernetes, or begins with nats://, tls://, etcd://, etcds:// or s3://" .Values.lease.register) -}}
{{- end -}}
{{- end }}

{{/* Ports of the register, the place and their endpoints, as a list. 443 is in networkPolicy.egressPorts. */}}
{{- define "bulkhead.enginePorts" -}}
{{- $ports := dict -}}
{{- range $table := list .Values.lease .Values.ship -}}
{{- range $address := list $table.register $table.to (dig "endpoint" "" ($table.options | default dict)) -}}
{{- $servers := regexReplaceAll "^([a-z0-9]+://[^/]*).*$" ($address | default "" | toString) "${1}" -}}
{{- $servers = regexReplaceAll "\\[[^]]*\\]" $servers "v6" -}}
{{- range $server := splitList "," (regexReplaceAll "^[a-z0-9]+://" $servers "") -}}
{{- if contains ":" $server -}}
{{- $_ := set $ports (splitList ":" $server | last) true -}}
{{- else if regexMatch "^(nats|tls)://" $servers -}}
{{- $_ := set $ports "4222" true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- keys $ports | sortAlpha | join " " -}}
{{- end }}
