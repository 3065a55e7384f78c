{{- /*
What a process or task reads of its environment. Enters: root, `shape` (its entry in processes.yaml) and `own` (its entry in
values.yaml). A setting is a variable, a secret a file that NAME_FILE names; of what was given elsewhere it sees nothing.
*/ -}}
{{- define "payments.environment" -}}
{{- $secrets := include "payments.secrets" . | fromJson -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- range $variable := include "payments.read" . | fromJsonArray }}
{{- if hasKey $secrets $variable }}
- {name: {{ $variable }}_FILE, value: /run/secrets/culturebridge/{{ $variable }}}
{{- else }}
{{- with include "payments.setting" (dict "root" $.root "own" $.own "variable" $variable) }}
- {name: {{ $variable }}, value: {{ quote . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The names of the variables that it reads, as a JSON list. */ -}}
{{- define "payments.read" -}}
{{- $names := list }}
{{- $table := .root.Files.Get "processes.yaml" | fromYaml }}
{{- range .shape.reads }}
{{- $names = concat $names (index $table.concerns .) }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{- /* The value of one setting: its own, else everybody's, else nothing. A million is no 1e+06, which Helm makes of it. */ -}}
{{- define "payments.setting" -}}
{{- $value := ternary .own.settings .root.Values.settings (hasKey .own.settings .variable) | dig .variable "" }}
{{- ternary (int64 $value) $value (kindIs "float64" $value) }}
{{- end }}

{{- /* Where the secrets are that it reads and that were given, by variable, as JSON: its own, else everybody's. */ -}}
{{- define "payments.secrets" -}}
{{- $found := dict }}
{{- range $variable := include "payments.read" . | fromJsonArray }}
{{- with ternary $.own.secrets $.root.Values.secrets (hasKey $.own.secrets $variable) | dig $variable dict }}
{{- $found = set $found $variable . }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end }}
