{{- /*
A pod of one process or task. Enters: root, name, `shape` (its entry in processes.yaml) and `own` (its entry in values.yaml).
*/ -}}
{{- define "payments.pod" -}}
{{- include "payments.contradictions" . }}
{{- $isProcess := hasKey .shape "kind" }}
{{- $image := ternary .name "cb-ops" $isProcess }}
{{- $secrets := include "payments.secrets" . | fromJson }}
{{- $isDoor := eq .name "ingress" }}
{{- $grace := 12 }}{{- /* a process ends within 10 s of SIGTERM */}}
{{- if $isDoor }}{{ $grace = add $grace .root.Values.door.deregistrationSeconds }}{{ end -}}
metadata:
  labels:
    {{- include "payments.labels" . | nindent 4 }}
spec:
  automountServiceAccountToken: false
  # A Service called smtp would else set SMTP_PORT, and one called health HEALTH_PORT.
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $grace }}
  {{- if $isProcess }}
  topologySpreadConstraints:
    {{- $revision := ternary "pod-template-hash" "controller-revision-hash" (eq .shape.kind "Deployment") }}
    {{- range $key, $unsatisfied := dict "kubernetes.io/hostname" "DoNotSchedule" "topology.kubernetes.io/zone" "ScheduleAnyway" }}
    - topologyKey: {{ $key }}
      whenUnsatisfiable: {{ $unsatisfied }}
      maxSkew: 1
      nodeTaintsPolicy: Honor
      matchLabelKeys: [{{ $revision }}]
      labelSelector:
        matchLabels:
          {{- include "payments.selector" $ | nindent 10 }}
    {{- end }}
  {{- else if not .shape.waits }}
  restartPolicy: Never
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ printf "%s/%s:%s" .root.Values.image.repository $image (.root.Values.image.tag | default .root.Chart.AppVersion) }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      {{- if .shape.waits }}
      command: [sleep, infinity]
      {{- end }}
      {{- with .shape.command }}
      {{- $told := list }}{{ with $.own.brokers }}{{ $told = list "--brokers" (toString .) }}{{ end }}
      args: {{ toJson (concat . $told) }}
      {{- end }}
      env:
        {{- include "payments.environment" . | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      {{- if $isProcess }}
      ports:
        {{- if $isDoor }}
        - {name: http, containerPort: {{ include "payments.setting" (dict "root" .root "own" .own "variable" "INGRESS_PORT") }}}
        {{- end }}
        - {name: health, containerPort: {{ .own.settings.HEALTH_PORT }}}
      {{- if $isDoor }}
      # It is let in once it has reached Kafka: a release with a wrong password replaces no good door. Until then it is waited
      # for, as no restart brings Kafka back. In the end it is restarted all the same, lest it hang: after 15 minutes, since the
      # kubelet forgets after ten what it had restarted before, and does not make the door wait longer each time.
      startupProbe:
        httpGet: {path: /health/ready, port: health}
        periodSeconds: 2
        failureThreshold: 450
        timeoutSeconds: 5
      {{- else }}
      # It answers before it has reached anything; from then on a process that does not is restarted.
      startupProbe:
        httpGet: {path: /health/live, port: health}
        periodSeconds: 2
        failureThreshold: 30
        timeoutSeconds: 5
      {{- end }}
      livenessProbe:
        httpGet: {path: /health/live, port: health}
        periodSeconds: 10
        failureThreshold: 3
        timeoutSeconds: 5
      readinessProbe:
        {{- if $isDoor }}
        # Once in, it stays while Kafka is away: it serves checkouts, and tells Stripe itself to send again.
        {{- end }}
        httpGet: {path: /health/{{ ternary "live" "ready" $isDoor }}, port: health}
        periodSeconds: 5
        failureThreshold: 2
        timeoutSeconds: 5
      {{- if $isDoor }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ .root.Values.door.deregistrationSeconds }}}
      {{- end }}
      {{- end }}
      resources:
        {{- .own.resources | default (dict "requests" (dict "cpu" "100m" "memory" "256Mi") "limits" (dict "memory" "256Mi")) | toYaml | nindent 8 }}
      {{- if or $secrets .root.Values.certificates }}
      volumeMounts:
        {{- if $secrets }}
        - {name: secrets, mountPath: /run/secrets/culturebridge, readOnly: true}
        {{- end }}
        {{- if .root.Values.certificates }}
        - {name: certificates, mountPath: /etc/culturebridge, readOnly: true}
        {{- end }}
      {{- end }}
  {{- if or $secrets .root.Values.certificates }}
  volumes:
    {{- if $secrets }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- range $variable, $secret := $secrets }}
          - secret: {name: {{ $secret.name }}, items: [{key: {{ $secret.key }}, path: {{ $variable }}}]}
          {{- end }}
    {{- end }}
    {{- if .root.Values.certificates }}
    - name: certificates
      projected:
        sources:
          {{- range $file, $source := .root.Values.certificates }}
          - configMap: {name: {{ $source.name }}, items: [{key: {{ $source.key }}, path: {{ $file }}}]}
          {{- end }}
    {{- end }}
  {{- end }}
{{- end }}
