{{- /* What the webhook configurations share: which objects the API server sends, from which namespaces, and where to. */ -}}

{{- /* Where to. Takes root and path. */ -}}
{{- define "pinstream.clientConfig" -}}
{{- $path := .path -}}
{{- with .root -}}
{{- if .Values.webhook.url -}}
url: {{ trimSuffix "/" .Values.webhook.url }}{{ $path }}
{{- else -}}
service:
  name: {{ include "pinstream.fullname" . }}
  namespace: {{ .Release.Namespace }}
  path: {{ $path }}
  port: {{ .Values.service.port }}
{{- end }}
{{- if eq .Values.certificates.mode "secret" }}
caBundle: {{ .Values.certificates.secret.caBundle | b64enc | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Annotations of a webhook configuration. */ -}}
{{- define "pinstream.webhookAnnotations" -}}
{{- $annotations := .Values.webhook.annotations }}
{{- if eq .Values.certificates.mode "cert-manager" }}
{{- $annotations = merge (dict "cert-manager.io/inject-ca-from" (printf "%s/%s" .Release.Namespace (include "pinstream.fullname" .))) $annotations }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The pin mode of namespaces without the label; "off" is a boolean to YAML. */ -}}
{{- define "pinstream.pinDefault" -}}
{{- ternary "off" (toString .Values.pin.default) (eq (toString .Values.pin.default) "false") }}
{{- end }}

{{- /*
Namespaces by their label pinstream.dev/pin: those of these modes, and if the default is among them those without a label.
Takes root and modes.
*/ -}}
{{- define "pinstream.namespaceSelector" -}}
{{- $modes := .modes -}}
{{- $others := list -}}
{{- range list "workload" "pod" "off" -}}
{{- if not (has . $modes) }}{{ $others = append $others . }}{{ end -}}
{{- end -}}
{{- with .root -}}
matchExpressions:
  - key: pinstream.dev/pin
    {{- if has (include "pinstream.pinDefault" .) $modes }}
    operator: NotIn
    values: {{ toJson $others }}
    {{- else }}
    operator: In
    values: {{ toJson $modes }}
    {{- end }}
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ append .Values.webhook.excludedNamespaces .Release.Namespace | uniq | toJson }}
  {{- with .Values.webhook.namespaceSelector.matchExpressions }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.webhook.namespaceSelector.matchLabels }}
matchLabels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Pods and what holds pod templates. */ -}}
{{- define "pinstream.workloadRules" -}}
- apiGroups: [""]
  apiVersions: [v1]
  resources: [pods, replicationcontrollers{{ if .Values.podTemplates }}, podtemplates{{ end }}]
  operations: [CREATE, UPDATE]
  scope: Namespaced
- apiGroups: [""]
  apiVersions: [v1]
  resources: [pods/ephemeralcontainers]
  operations: [UPDATE]
  scope: Namespaced
- apiGroups: [apps]
  apiVersions: [v1]
  resources: [deployments, replicasets, statefulsets, daemonsets]
  operations: [CREATE, UPDATE]
  scope: Namespaced
- apiGroups: [batch]
  apiVersions: [v1]
  resources: [jobs, cronjobs]
  operations: [CREATE, UPDATE]
  scope: Namespaced
{{- end }}

{{- define "pinstream.podRules" -}}
- apiGroups: [""]
  apiVersions: [v1]
  resources: [pods]
  operations: [CREATE, UPDATE]
  scope: Namespaced
- apiGroups: [""]
  apiVersions: [v1]
  resources: [pods/ephemeralcontainers]
  operations: [UPDATE]
  scope: Namespaced
{{- end }}

{{- /* Further kinds, of the values. */ -}}
{{- define "pinstream.kindRules" -}}
{{- range .Values.kinds }}
- apiGroups: [{{ .group | quote }}]
  apiVersions: {{ toJson .versions }}
  resources: [{{ .resource }}]
  operations: [CREATE, UPDATE]
  scope: Namespaced
{{- end }}
{{- end }}

{{- /*
Conditions, as a field: these if they are not turned off, and those of the values. Takes root and conditions; without
conditions only those of the values.
*/ -}}
{{- define "pinstream.matchConditions" -}}
{{- $settings := .root.Values.webhook.matchConditions }}
{{- $conditions := and $settings.enabled .conditions }}
{{- if or $conditions $settings.extra }}
matchConditions:
  {{- with $conditions }}
  {{- trim . | nindent 2 }}
  {{- end }}
  {{- with $settings.extra }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* How objects that hold images are sent. */ -}}
{{- define "pinstream.callSettings" -}}
timeoutSeconds: {{ .Values.webhook.timeoutSeconds }}
matchPolicy: {{ .Values.webhook.matchPolicy }}
admissionReviewVersions: [v1]
{{- with .Values.webhook.objectSelector }}
objectSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The controller of an object decides over its images; Pods are the exception. */ -}}
{{- define "pinstream.notOwned" -}}
- name: not-decided-by-a-controller
  expression: >-
    request.kind.kind == 'Pod' ||
    !object.?metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false))
{{- end }}
