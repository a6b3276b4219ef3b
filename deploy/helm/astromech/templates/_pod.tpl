{{/* The pod's template of the Deployment and of the StatefulSet: dict "root" . "settings" SETTINGS. */}}

{{- define "astromech.env" -}}
{{- $env := concat (default list .Values.env) (default list .Values.extraEnv) -}}
{{- with $env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* probe: dict "settings" SETTINGS "path" PATH "own" VALUES "times" DICT. What the values say counts; a way to ask of their own takes the place of ours. */}}
{{- define "astromech.probe" -}}
{{- $probe := .times -}}
{{- if not (or .own.httpGet .own.tcpSocket .own.exec .own.grpc) -}}
  {{- if .settings.clientCertificates -}}
    {{- $_ := set $probe "tcpSocket" (dict "port" "http") -}}
  {{- else -}}
    {{- $_ := set $probe "httpGet" (dict "path" .path "port" "http" "scheme" .settings.scheme) -}}
  {{- end -}}
{{- end -}}
{{- mergeOverwrite $probe .own | toYaml -}}
{{- end -}}

{{- define "astromech.probes" -}}
{{- $probes := .root.Values.probes -}}
startupProbe:
  {{- include "astromech.probe" (dict "settings" .settings "path" "/healthz" "own" $probes.startup "times" (dict "periodSeconds" 2 "timeoutSeconds" 5 "failureThreshold" (max 1 (div .root.Values.startupSeconds 2)))) | nindent 2 }}
livenessProbe:
  {{- include "astromech.probe" (dict "settings" .settings "path" "/healthz" "own" $probes.liveness "times" (dict "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 6)) | nindent 2 }}
# Whether search works: a broker that is down takes no pod out of the Service. What else is missing: /readyz.
readinessProbe:
  {{- include "astromech.probe" (dict "settings" .settings "path" "/readyz/search" "own" $probes.readiness "times" (dict "periodSeconds" 5 "timeoutSeconds" 5)) | nindent 2 }}
{{- end -}}

{{- define "astromech.preStop" -}}
{{- if gt (int .Values.preStopSeconds) 0 }}
lifecycle:
  preStop:
    {{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
    sleep: {seconds: {{ .Values.preStopSeconds }}}
    {{- else }}
    exec: {command: [sleep, {{ .Values.preStopSeconds | toString | quote }}]}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "astromech.mounts" -}}
- {name: config, mountPath: /etc/astromech, readOnly: true}
- {name: state, mountPath: /var/lib/astromech}
- {name: tmp, mountPath: /tmp}
{{- if .Values.secretName }}
- {name: secrets, mountPath: /run/secrets/astromech, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of volume sources that several values files bring together all but one must be null: two make a pod that Kubernetes refuses. */}}
{{- define "astromech.bundleVolume" -}}
{{- $sources := dict -}}
{{- range $kind, $source := .Values.bundle.volume -}}
  {{- if not (kindIs "invalid" $source) }}{{ $_ := set $sources $kind $source }}{{ end -}}
{{- end -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "bundle.volume has %d sources (%s), a volume has one; fix: set the others to null" (len $sources) (keys $sources | sortAlpha | join ", ")) -}}
{{- else if $sources -}}
{{ toYaml $sources }}
{{- else if .Values.bundle.fetch.enabled -}}
emptyDir: {{ .Values.bundle.fetch.sizeLimit | empty | ternary dict (dict "sizeLimit" .Values.bundle.fetch.sizeLimit) | toJson }}
{{- else -}}
persistentVolumeClaim: {claimName: {{ .Values.bundle.existingClaim | quote }}}
{{- end -}}
{{- end -}}

{{- define "astromech.volumes" -}}
- name: config
  configMap: {name: {{ include "astromech.fullname" .root }}}
- name: bundle
  {{- include "astromech.bundleVolume" .root | nindent 2 }}
{{- if not .settings.embedded }}
- name: state
  emptyDir: {}
{{- end }}
- name: tmp
  emptyDir: {}
{{- with .root.Values.secretName }}
- name: secrets
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Where it may run: dict "root" . "values" VALUES, the daemon's or the refresh job's. */}}
{{- define "astromech.scheduling" -}}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "astromech.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest | quote -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) | quote -}}
{{- end -}}
{{- end -}}

{{- define "astromech.podAnnotations" -}}
{{- $annotations := dict "checksum/config" (.root.Values.config | sha256sum) -}}
{{- if and (not .root.Values.serviceMonitor.enabled) .settings.metricsOpen (not .settings.clientCertificates) -}}
{{- $annotations = merge $annotations (dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString .settings.port) "prometheus.io/scheme" (lower .settings.scheme) "prometheus.io/path" "/metrics") -}}
{{- end -}}
{{- mergeOverwrite $annotations .root.Values.podAnnotations | toYaml -}}
{{- end -}}

{{- define "astromech.pod" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- mergeOverwrite dict $values.podLabels (include "astromech.selectorLabels" .root | fromYaml) | toYaml | nindent 4 }}
  annotations:
    # A changed configuration rolls the pods: its sum is one of these.
    {{- include "astromech.podAnnotations" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "astromech.serviceAccountName" .root }}
  # It asks nothing of the cluster.
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- if or $values.bundle.fetch.enabled $values.extraInitContainers }}
  initContainers:
    {{- if $values.bundle.fetch.enabled }}
    # Verified like every bundle of the registry; what is there already and whole is kept.
    - name: bundle
      image: {{ include "astromech.image" (dict "root" $root "image" $values.image) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [bundle, fetch, --config, /etc/astromech/astromech.toml, --to, {{ .settings.bundlePath | quote }}]
      {{- include "astromech.env" $root | nindent 6 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      resources:
        {{- toYaml (default $values.resources $values.bundle.fetch.resources) | nindent 8 }}
      volumeMounts:
        - {name: bundle, mountPath: /bundle}
        {{- include "astromech.mounts" $root | nindent 8 }}
    {{- end }}
    {{- with $values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: astromech
      image: {{ include "astromech.image" (dict "root" $root "image" $values.image) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [run, --config, /etc/astromech/astromech.toml]
      ports:
        - {name: http, containerPort: {{ .settings.port }}}
      {{- include "astromech.env" $root | nindent 6 }}
      {{- include "astromech.preStop" $root | nindent 6 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      {{- include "astromech.probes" . | nindent 6 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: bundle, mountPath: /bundle, readOnly: true}
        {{- include "astromech.mounts" $root | nindent 8 }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "astromech.volumes" . | nindent 4 }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $selector := dict "matchLabels" (include "astromech.selectorLabels" $root | fromYaml) }}
    - {{ mergeOverwrite (dict "labelSelector" $selector) . | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  {{- include "astromech.scheduling" $values | nindent 2 }}
{{- end -}}
