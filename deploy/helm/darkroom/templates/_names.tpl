{{/* Names, labels, images: what every object has. */}}

{{- define "darkroom.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 24 | trimSuffix "-" }}
{{- end }}

{{/* At most 24 characters: with a model's name (24 too) and a stage's behind it, a Service's name stays within 63. */}}
{{- define "darkroom.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 24 | trimSuffix "-" }}
{{- else if contains (include "darkroom.name" .) .Release.Name -}}
{{ .Release.Name | trunc 24 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "darkroom.name" .) | trunc 24 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "darkroom.selector" -}}
app.kubernetes.io/name: {{ include "darkroom.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* A pod's labels hold nothing of the chart's version: another chart that changes nothing of a pod must not start it again. */}}
{{- define "darkroom.podLabels" -}}
{{ include "darkroom.selector" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | quote }}
app.kubernetes.io/part-of: darkroom
{{- end }}

{{- define "darkroom.labels" -}}
{{ include "darkroom.podLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The image of a service: (dict "root" $ "service" "vae" "backend" "cpu"). */}}
{{- define "darkroom.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := printf "%s/darkroom-%s" $image.registry .service -}}
{{- with index $image.digests (printf "%s-%s" .service .backend) -}}
{{ printf "%s@%s" $name . }}
{{- else -}}
{{ printf "%s:%s-%s" $name (default $.root.Chart.AppVersion $image.tag) .backend }}
{{- end }}
{{- end }}

{{/* A setting's value as text. Whole numbers come out of YAML as floats, and large ones would be written 6.7e+07. */}}
{{- define "darkroom.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end }}
{{- end }}

{{/* The end of a Service's whole name. */}}
{{- define "darkroom.domain" -}}
{{ printf "%s.svc.%s" .Release.Namespace .Values.clusterDomain }}
{{- end }}

{{- define "darkroom.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "darkroom.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Spreads the pods of a selector: (dict "root" $ "labels" "yaml of the labels"). */}}
{{- define "darkroom.spread" -}}
{{- if .root.Values.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range .root.Values.topologySpread.keys }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $.labels | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where a pod goes: the values of a service that every pod has. */}}
{{- define "darkroom.placement" -}}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
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
{{- end }}

{{/* Settings that every service has, as environment: telemetry. */}}
{{- define "darkroom.telemetry" -}}
- name: DARKROOM_LOG_LEVEL
  value: {{ .Values.logging.level | quote }}
- name: DARKROOM_LOG_FORMAT
  value: {{ .Values.logging.format | quote }}
{{- if .Values.tracing.endpoint }}
- name: DARKROOM_OTLP_ENDPOINT
  value: {{ .Values.tracing.endpoint | quote }}
- name: DARKROOM_TRACE_RATIO
  value: {{ include "darkroom.scalar" .Values.tracing.ratio | quote }}
{{- end }}
{{- end }}
