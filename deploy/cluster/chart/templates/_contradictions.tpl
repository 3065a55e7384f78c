{{- /*
Refuses, in a sentence, what a pod's process would refuse at its start (shared/settings.py), or nobody could reach. Enters:
root, name, `shape` (its entry in processes.yaml) and `own` (its entry in values.yaml). What one value may be by itself stands
in values.schema.json; here stands what depends on others.
*/ -}}
{{- define "payments.contradictions" -}}
{{- $secrets := include "payments.secrets" . | fromJson }}
{{- $told := dict }}
{{- range $variable := include "payments.read" . | fromJsonArray }}
{{- $told = set $told $variable (include "payments.setting" (dict "root" $.root "own" $.own "variable" $variable)) }}
{{- end }}
{{- if has "kafka" .shape.reads }}
{{- $protocol := $told.KAFKA_SECURITY_PROTOCOL | default "PLAINTEXT" }}
{{- $user := $told.KAFKA_SASL_USERNAME }}
{{- if ne (empty $user) (not (hasKey $secrets "KAFKA_SASL_PASSWORD")) }}
{{- fail (printf "%s: the setting KAFKA_SASL_USERNAME and the secret KAFKA_SASL_PASSWORD belong together" .name) }}
{{- end }}
{{- if ne (empty $user) (not (hasPrefix "SASL" $protocol)) }}
{{- fail (printf "%s: KAFKA_SASL_USERNAME and KAFKA_SECURITY_PROTOCOL=SASL_… belong together; it is %s" .name $protocol) }}
{{- end }}
{{- if and (eq $protocol "SASL_PLAINTEXT") (eq $told.KAFKA_SASL_MECHANISM "PLAIN") }}
{{- fail (printf "%s: KAFKA_SASL_MECHANISM=PLAIN would send the password in the clear with SASL_PLAINTEXT" .name) }}
{{- end }}
{{- if and $told.KAFKA_SSL_CA_FILE (not (hasSuffix "SSL" $protocol)) }}
{{- fail (printf "%s: KAFKA_SSL_CA_FILE needs KAFKA_SECURITY_PROTOCOL=SASL_SSL or SSL; %s is not encrypted" .name $protocol) }}
{{- end }}
{{- end }}
{{- if has "smtp" .shape.reads }}
{{- if ne (empty $told.SMTP_USER) (not (hasKey $secrets "SMTP_PASSWORD")) }}
{{- fail (printf "%s: the setting SMTP_USER and the secret SMTP_PASSWORD belong together" .name) }}
{{- end }}
{{- if and (eq $told.SMTP_SECURITY "none") (or $told.SMTP_USER $told.SMTP_SSL_CA_FILE) }}
{{- fail (printf "%s: SMTP_SECURITY=none is not encrypted: SMTP_USER and SMTP_SSL_CA_FILE need starttls or tls" .name) }}
{{- end }}
{{- end }}
{{- if has "jwt" .shape.reads }}
{{- $key := ternary "JWT_SECRET_KEY" "JWT_PUBLIC_KEY" (eq (default "HS256" $told.JWT_ALGORITHM) "HS256") }}
{{- if not (hasKey $secrets $key) }}
{{- fail (printf "%s: JWT_ALGORITHM=%s needs the secret %s" .name (default "HS256" $told.JWT_ALGORITHM) $key) }}
{{- end }}
{{- end }}
{{- if and (has "http" .shape.reads) (eq $told.INGRESS_PORT $told.HEALTH_PORT) }}
{{- fail (printf "%s: INGRESS_PORT and HEALTH_PORT are both %s" .name $told.HEALTH_PORT) }}
{{- end }}
{{- range $variable, $file := pick $told "KAFKA_SSL_CA_FILE" "SMTP_SSL_CA_FILE" }}
{{- if and (hasPrefix "/etc/culturebridge/" $file) (not (hasKey $.root.Values.certificates (base $file))) }}
{{- fail (printf "%s: %s is %s, which certificates does not mount" $.name $variable $file) }}
{{- end }}
{{- end }}
{{- end }}
