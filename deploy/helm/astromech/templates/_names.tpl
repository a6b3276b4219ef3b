{{- define "astromech.fullname" -}}
{{- default (printf "%s-astromech" .Release.Name) .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "astromech.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "astromech.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "astromech.selectorLabels" -}}
app.kubernetes.io/name: astromech
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of every object; what `commonLabels` says of the same key counts. */}}
{{- define "astromech.commonLabels" -}}
{{- $labels := dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- omit (mergeOverwrite $labels .Values.commonLabels) "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" | toYaml -}}
{{- end -}}

{{- define "astromech.labels" -}}
{{ include "astromech.selectorLabels" . }}
{{ include "astromech.commonLabels" . }}
{{- end -}}

{{/* The label `job` of the daemon's series: what the ServiceMonitor gives, unless a value says otherwise. */}}
{{- define "astromech.job" -}}
{{- default (include "astromech.fullname" .) .Values.metrics.job -}}
{{- end -}}

{{/* What picks the daemon's series, without braces. */}}
{{- define "astromech.matchers" -}}
job="{{ include "astromech.job" . }}"
{{- if and .Values.serviceMonitor.enabled .Values.prometheusRule.matchNamespace -}}
,namespace="{{ .Release.Namespace }}"
{{- end -}}
{{- end -}}
