{{- /* The name of what belongs to one process or task. A CronJob's may have 52 characters. */ -}}
{{- define "payments.name" -}}
{{ .root.Release.Name | trunc 40 | trimSuffix "-" }}-{{ .name }}
{{- end }}

{{- /* What tells all of this release from everything else. */ -}}
{{- define "payments.ours" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- /* And the pods of one process or task from the others; it never changes. */ -}}
{{- define "payments.selector" -}}
{{ include "payments.ours" . }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "payments.labels" -}}
{{ include "payments.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- /*
What runs before every release, in the order of weights, and what has to stand there by then. What the last release left under
the name is replaced.
*/ -}}
{{- define "payments.before" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation
{{- end }}

{{- define "payments.metadata" -}}
name: {{ include "payments.name" . }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "payments.labels" . | nindent 2 }}
{{- end }}
