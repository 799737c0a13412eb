{{/* Prefix of every object: the release's name, with "coxswain" in it. */}}
{{- define "coxswain.name" -}}
{{- $name := ternary .Release.Name (printf "%s-coxswain" .Release.Name) (contains "coxswain" .Release.Name) -}}
{{- printf "%s-operator" (trunc 40 $name | trimSuffix "-") -}}
{{- end -}}

{{/* Cluster-wide objects carry the namespace too, so that two releases of one name do not meet. */}}
{{- define "coxswain.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "coxswain.name" .) -}}
{{- end -}}

{{- define "coxswain.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "coxswain.selector" -}}
app.kubernetes.io/name: coxswain
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "coxswain.labels" -}}
{{ include "coxswain.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Another name for each maker, so that changing the maker meets no Secret that belongs to the other. */}}
{{- define "coxswain.certificateSecret" -}}
{{ include "coxswain.name" . }}-{{ ternary "issued" "certificate" .Values.webhook.certManager.enabled }}
{{- end -}}

{{/* The certificate of the webhook as JSON: ca, crt and key, in base64. The one in the cluster, else one for ten years.
     Made once per rendering and remembered, so that Secret, webhook and Deployment agree. */}}
{{- define "coxswain.certificate" -}}
{{- if not (hasKey .Release "coxswainCertificate") -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (include "coxswain.certificateSecret" .) | default dict -}}
{{- $data := $found.data | default dict -}}
{{- if and (index $data "ca.crt") (index $data "tls.crt") (index $data "tls.key") -}}
{{- $_ := set .Release "coxswainCertificate" (dict "ca" (index $data "ca.crt") "crt" (index $data "tls.crt") "key" (index $data "tls.key")) -}}
{{- else -}}
{{- $host := printf "%s.%s.svc" (include "coxswain.name" .) .Release.Namespace -}}
{{- $authority := genCA "coxswain-webhook" 3650 -}}
{{- $made := genSignedCert $host nil (list $host) 3650 $authority -}}
{{- $_ := set .Release "coxswainCertificate" (dict "ca" (b64enc $authority.Cert) "crt" (b64enc $made.Cert) "key" (b64enc $made.Key)) -}}
{{- end -}}
{{- end -}}
{{- toJson .Release.coxswainCertificate -}}
{{- end -}}
