{{- /* Names, labels and rules that several templates share. */ -}}

{{- define "pinstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "pinstream.fullname" -}}
{{- $name := include "pinstream.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "pinstream.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pinstream.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "pinstream.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "pinstream.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: pinstream
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Image streams may be those of the custom resource, which are Pinstream's to complete and to import. */ -}}
{{- define "pinstream.hasStreams" -}}
{{- if has .Values.source (list "auto" "pinstream") }}true{{ end }}
{{- end }}

{{- /* The controller: there where it has something to import into. */ -}}
{{- define "pinstream.hasController" -}}
{{- if and .Values.controller.enabled (include "pinstream.hasStreams" .) }}true{{ end }}
{{- end }}

{{- /* What the webhook refuses and the controller does not ask: flags of both. */ -}}
{{- define "pinstream.importFlags" -}}
- --import-mode={{ .Values.controller.importMode }}
{{- include "pinstream.permittedFlags" . }}
{{- end }}

{{- /* Which registries are asked. */ -}}
{{- define "pinstream.permittedFlags" -}}
{{- range .Values.controller.registries.allow }}
- --registry-allow={{ . }}
{{- end }}
{{- range .Values.controller.registries.block }}
- --registry-block={{ . }}
{{- end }}
{{- end }}

{{- /* How registries are asked: flags of whoever asks them. */ -}}
{{- define "pinstream.registryFlags" -}}
- --registry-concurrency={{ .Values.controller.registries.concurrency | int }}
- --registry-rate={{ .Values.controller.registries.rate }}
{{- range .Values.controller.registries.ca }}
- --registry-ca={{ . }}
{{- end }}
{{- range .Values.controller.registries.allowAddresses }}
- --registry-allow-address={{ . }}
{{- end }}
{{- range .Values.controller.registries.blockAddresses }}
- --registry-block-address={{ . }}
{{- end }}
{{- end }}

{{- define "pinstream.controllerName" -}}
{{- printf "%s-controller" (include "pinstream.fullname" .) }}
{{- end }}

{{- define "pinstream.controllerSelectorLabels" -}}
app.kubernetes.io/name: {{ include "pinstream.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "pinstream.controllerLabels" -}}
{{- mergeOverwrite (include "pinstream.labels" . | fromYaml) (include "pinstream.controllerSelectorLabels" . | fromYaml) | toYaml }}
{{- end }}

{{- define "pinstream.controllerServiceAccountName" -}}
{{- with .Values.controller.serviceAccount }}
{{- if .create }}
{{- default (include "pinstream.controllerName" $) .name }}
{{- else }}
{{- required "controller.serviceAccount.name must name an existing ServiceAccount when controller.serviceAccount.create is false" .name }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pinstream.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "pinstream.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name must name an existing ServiceAccount when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "pinstream.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "pinstream.priorityClassName" -}}
{{- if .Values.priorityClass.create }}
{{- default (include "pinstream.fullname" .) .Values.priorityClass.name }}
{{- else }}
{{- .Values.priorityClass.name }}
{{- end }}
{{- end }}

{{- /* The Secret that holds the serving certificate. Each mode has its own, so that the mode can be changed. */ -}}
{{- define "pinstream.tlsSecretName" -}}
{{- if eq .Values.certificates.mode "secret" }}
{{- .Values.certificates.secret.name }}
{{- else if eq .Values.certificates.mode "cert-manager" }}
{{- printf "%s-cert-manager-tls" (include "pinstream.fullname" .) }}
{{- else }}
{{- printf "%s-tls" (include "pinstream.fullname" .) }}
{{- end }}
{{- end }}

{{- /* Every name that the serving certificate must carry, as {"names": [...]}. */ -}}
{{- define "pinstream.tlsNames" -}}
{{- $names := list (printf "%s.%s.svc" (include "pinstream.fullname" .) .Release.Namespace) }}
{{- with .Values.webhook.url }}
{{- $names = append $names (urlParse .).hostname }}
{{- end }}
{{- dict "names" (concat $names .Values.certificates.dnsNames | uniq) | toJson }}
{{- end }}

{{- /* Names of a certificate, as cert-manager wants them. Takes the list. */ -}}
{{- define "pinstream.certificateNames" -}}
{{- $dns := list }}
{{- $ips := list }}
{{- range . }}
{{- if or (contains ":" .) (regexMatch `^[0-9.]+$` .) }}
{{- $ips = append $ips . }}
{{- else }}
{{- $dns = append $dns . }}
{{- end }}
{{- end -}}
dnsNames:
  {{- toYaml $dns | nindent 2 }}
{{- with $ips }}
ipAddresses:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* ADDRESS:PORT to listen on; an IPv6 address is put in brackets. Takes [address, port]. */ -}}
{{- define "pinstream.listen" -}}
{{- $address := index . 0 }}
{{- if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address }}{{ end }}:{{ index . 1 | int }}
{{- end }}

{{- /* Constraints, each for the Pods with these labels unless it says for which. Takes [constraints, labels]. */ -}}
{{- define "pinstream.topologySpread" -}}
{{- $labels := index . 1 -}}
{{- range index . 0 }}
- {{ toYaml . | nindent 2 | trim }}
  {{- if not .labelSelector }}
  labelSelector:
    matchLabels:
      {{- $labels | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "pinstream.registryName" -}}
{{- printf "%s-registry" (include "pinstream.fullname" .) }}
{{- end }}

{{- define "pinstream.registrySelectorLabels" -}}
app.kubernetes.io/name: {{ include "pinstream.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: registry
{{- end }}

{{- define "pinstream.registryLabels" -}}
{{- mergeOverwrite (include "pinstream.labels" . | fromYaml) (include "pinstream.registrySelectorLabels" . | fromYaml) | toYaml }}
{{- end }}

{{- define "pinstream.registryServiceAccountName" -}}
{{- with .Values.registry.serviceAccount }}
{{- if .create }}
{{- default (include "pinstream.registryName" $) .name }}
{{- else }}
{{- required "registry.serviceAccount.name must name an existing ServiceAccount when registry.serviceAccount.create is false" .name }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The Secret that holds the registry's certificate. */ -}}
{{- define "pinstream.registryTlsSecretName" -}}
{{- with .Values.registry.certificate }}
{{- if eq .mode "secret" }}
{{- required "registry.certificate.secretName must name a Secret with tls.crt and tls.key when registry.certificate.mode is secret" .secretName }}
{{- else }}
{{- default (printf "%s-tls" (include "pinstream.registryName" $)) .secretName }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The host of the registry without its port. */ -}}
{{- define "pinstream.registryDomain" -}}
{{- regexReplaceAll ":[0-9]+$" .Values.registry.host "" }}
{{- end }}

{{- /* The claim of the registry's volume; nothing with a bucket. */ -}}
{{- define "pinstream.registryClaimName" -}}
{{- if not .Values.registry.storage.bucket }}
{{- default (include "pinstream.registryName" .) .Values.registry.storage.volume.existingClaim }}
{{- end }}
{{- end }}

{{- /* Only one Pod at a time can use the volume. */ -}}
{{- define "pinstream.registryIsAlone" -}}
{{- with .Values.registry }}
{{- if and (not .storage.bucket) (not (has "ReadWriteMany" .storage.volume.accessModes)) }}
{{- if gt (int .replicas) 1 }}
{{- fail "registry.replicas is more than 1: set registry.storage.bucket, or registry.storage.volume.accessModes=[ReadWriteMany]" }}
{{- end }}true
{{- end }}
{{- end }}
{{- end }}
