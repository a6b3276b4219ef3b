{{/*
What the chart has to know of `config`, as YAML: port, scheme, engine and so on. A configuration that can't work in a pod is refused here, by
the name of its setting and with what to write. `${NAME:-default}` is read as the daemon would: `env` and `extraEnv` first, then the default.
*/}}

{{/* resolve: dict "text" TEXT "env" LIST. What nothing here tells (a Secret's value) stays as it is written. */}}
{{- define "astromech.resolve" -}}
{{- $text := toString .text -}}
{{- $env := .env -}}
{{- range regexFindAll "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}" $text -1 -}}
  {{- $name := regexReplaceAll "^\\$\\{([A-Za-z_][A-Za-z0-9_]*).*$" . "${1}" -}}
  {{- $value := "" -}}
  {{- $hidden := false -}}
  {{- range $env -}}
    {{- if eq .name $name -}}
      {{- $value = toString (default "" .value) -}}
      {{- $hidden = hasKey . "valueFrom" -}}
    {{- end -}}
  {{- end -}}
  {{- if and (not $value) (contains ":-" .) -}}
    {{- $value = regexReplaceAll "^\\$\\{[A-Za-z_][A-Za-z0-9_]*:-([^}]*)\\}$" . "${1}" -}}
    {{- if not $hidden }}{{ $text = replace . $value $text }}{{ end -}}
  {{- else if $value -}}
    {{- $text = replace . $value $text -}}
  {{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* writable: dict "root" . "setting" NAME "path" PATH. Refuses a path that is on no volume the daemon may write. */}}
{{- define "astromech.writable" -}}
{{- $path := .path -}}
{{- $found := or (hasPrefix "/var/lib/astromech/" $path) (hasPrefix "/tmp/" $path) (hasPrefix "${" $path) -}}
{{- range .root.Values.extraVolumeMounts -}}
  {{- if and (not .readOnly) (or (eq $path .mountPath) (hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $path)) }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "config: %s is %q, where the pod can't write; fix: %s = \"/var/lib/astromech/...\", or mount a volume there by extraVolumes and extraVolumeMounts" .setting $path .setting) -}}
{{- end -}}
{{- end -}}

{{- define "astromech.settings" -}}
{{- $toml := fromToml .Values.config -}}
{{- if hasKey $toml "Error" }}{{ fail (printf "config is no TOML: %s; fix: astromech check-config names the line" $toml.Error) }}{{ end -}}
{{- $env := concat (default list .Values.env) (default list .Values.extraEnv) -}}
{{- $listen := include "astromech.resolve" (dict "text" (dig "http" "listen" "127.0.0.1:8080" $toml) "env" $env) -}}
{{- if not (regexMatch "^[^$]*:[0-9]+$" $listen) -}}
{{- fail (printf "config: the port of http.listen (%q) can't be read here; fix: listen = \"0.0.0.0:8080\"" $listen) -}}
{{- end -}}
{{- $host := regexReplaceAll ":[0-9]+$" $listen "" -}}
{{- $port := int (regexFind "[0-9]+$" $listen) -}}
{{- if or (hasPrefix "127." $host) (eq $host "localhost") (eq $host "[::1]") (eq $port 0) -}}
{{- fail (printf "config: http.listen is %q, which nothing outside the pod reaches; fix: listen = \"0.0.0.0:8080\"" $listen) -}}
{{- end -}}

{{- $engine := include "astromech.resolve" (dict "text" (dig "index" "engine" "embedded" $toml) "env" $env) -}}
{{- if not (has $engine (list "embedded" "qdrant")) -}}
{{- fail (printf "config: index.engine is %q; fix: \"qdrant\", or \"embedded\" for a StatefulSet with one replica" $engine) -}}
{{- end -}}
{{- $embedded := eq $engine "embedded" -}}
{{- if $embedded -}}
  {{- if gt (int .Values.replicas) 1 }}{{ fail (printf "replicas is %d, but the embedded index is one daemon's; fix: replicas = 1, or index.engine = \"qdrant\"" (int .Values.replicas)) }}{{ end -}}
  {{- if or .Values.autoscaling.enabled .Values.keda.enabled }}{{ fail "autoscaling and keda need index.engine = \"qdrant\": the embedded index is one daemon's" }}{{ end -}}
  {{- $path := include "astromech.resolve" (dict "text" (dig "index" "embedded" "path" "data/index" $toml) "env" $env) -}}
  {{- include "astromech.writable" (dict "root" . "setting" "index.embedded.path" "path" $path) -}}
  {{- if hasPrefix "/tmp/" $path }}{{ fail (printf "config: index.embedded.path is %q, which goes with the pod; fix: path = \"/var/lib/astromech/index\"" $path) }}{{ end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}{{ fail "autoscaling and keda would both set the number of replicas; fix: enable one of them" }}{{ end -}}

{{- $registry := include "astromech.resolve" (dict "text" (dig "rollout" "registry" "" $toml) "env" $env) -}}
{{- if $registry -}}
  {{- include "astromech.writable" (dict "root" . "setting" "rollout.bundles" "path" (include "astromech.resolve" (dict "text" (dig "rollout" "bundles" "bundles" $toml) "env" $env))) -}}
{{- end -}}
{{- $disk := include "astromech.resolve" (dict "text" (dig "rescore" "cache" "disk_path" "" $toml) "env" $env) -}}
{{- if $disk }}{{ include "astromech.writable" (dict "root" . "setting" "rescore.cache.disk_path" "path" $disk) }}{{ end -}}

{{- $bundle := include "astromech.resolve" (dict "text" (dig "bundle" "path" "bundle" $toml) "env" $env) -}}
{{- if .Values.bundle.fetch.enabled -}}
  {{- if not $registry }}{{ fail "bundle.fetch.enabled needs a registry to fetch from; fix: config: [rollout] registry = \"s3://bucket/prefix\"" }}{{ end -}}
  {{- if not (hasPrefix "/bundle/" $bundle) }}{{ fail (printf "config: bundle.path is %q; with bundle.fetch.enabled it is a folder that is made inside of the volume; fix: path = \"/bundle/current\"" $bundle) }}{{ end -}}
{{- end -}}
{{- $mounted := or (eq $bundle "/bundle") (hasPrefix "/bundle/" $bundle) (hasPrefix "${" $bundle) -}}
{{- range .Values.extraVolumeMounts }}{{ if or (eq $bundle .mountPath) (hasPrefix (printf "%s/" (trimSuffix "/" .mountPath)) $bundle) }}{{ $mounted = true }}{{ end }}{{ end -}}
{{- if not $mounted }}{{ fail (printf "config: bundle.path is %q, but the bundle's volume is mounted at /bundle; fix: path = \"/bundle\"" $bundle) }}{{ end -}}

{{- $tls := ne "" (include "astromech.resolve" (dict "text" (dig "http" "tls" "certificate_file" "" $toml) "env" $env)) -}}
{{- $clients := ne "" (include "astromech.resolve" (dict "text" (dig "http" "tls" "client_ca_file" "" $toml) "env" $env)) -}}
{{- $own := .Values.probes.readiness -}}
{{- if and $clients (not (or $own.httpGet $own.tcpSocket $own.exec $own.grpc)) -}}
{{- fail "config: http.tls.client_ca_file cuts off the kubelet, which has no certificate to show; fix: probes.readiness with a probe of your own (an exec, or a sidecar's port)" -}}
{{- end -}}
{{- $keyed := gt (add (len (dig "http" "auth" "read_keys" dict $toml)) (len (dig "http" "auth" "write_keys" dict $toml))) 0 -}}
{{- $open := or (not $keyed) (eq "true" (toString (dig "http" "auth" "metrics_open" true $toml))) -}}
{{- if .Values.serviceMonitor.enabled -}}
  {{- if and (not $open) (not .Values.serviceMonitor.authorization) }}{{ fail "config: /metrics wants a key (http.auth.metrics_open = false); fix: serviceMonitor.authorization.credentials with the Secret that has one" }}{{ end -}}
  {{- if and $clients (not .Values.serviceMonitor.tlsConfig) }}{{ fail "config: http.tls.client_ca_file wants a certificate of Prometheus too; fix: serviceMonitor.tlsConfig" }}{{ end -}}
{{- end -}}

{{- $drain := include "astromech.resolve" (dict "text" (dig "kafka" "drain_timeout_ms" 20000 $toml) "env" $env) | int -}}
{{- $needed := add (int .Values.preStopSeconds) (div (add $drain 999) 1000) -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (int $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but preStopSeconds and config: kafka.drain_timeout_ms take up to %d s; fix: raise it above that" (int .Values.terminationGracePeriodSeconds) (int $needed)) -}}
{{- end -}}
port: {{ $port }}
scheme: {{ ternary "HTTPS" "HTTP" $tls }}
clientCertificates: {{ $clients }}
keyed: {{ $keyed }}
metricsOpen: {{ $open }}
embedded: {{ $embedded }}
registry: {{ $registry | quote }}
bundlePath: {{ $bundle | quote }}
cuda: {{ eq "cuda" (include "astromech.resolve" (dict "text" (dig "runtime" "provider" "cpu" $toml) "env" $env)) }}
{{- end -}}
