{{- define "tracemeter.fullname" -}}
{{- default .Chart.Name .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "tracemeter.collector" -}}
{{ include "tracemeter.fullname" . }}-collector
{{- end }}

{{- define "tracemeter.host" -}}
{{ include "tracemeter.collector" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{- define "tracemeter.labels" -}}
app.kubernetes.io/name: tracemeter
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tracemeter.selector" -}}
app.kubernetes.io/name: tracemeter
app.kubernetes.io/component: collector
{{- end }}

{{- /* The interface that puts the filter in. */ -}}
{{- define "tracemeter.api" -}}
{{- $has := .Capabilities.APIVersions -}}
{{- if ne .Values.istio.api "auto" -}}
{{ .Values.istio.api }}
{{- else if $has.Has "extensions.istio.io/v1alpha1/TrafficExtension" -}}
TrafficExtension
{{- else if $has.Has "extensions.istio.io/v1alpha1/WasmPlugin" -}}
WasmPlugin
{{- else if $has.Has "networking.istio.io/v1alpha3/EnvoyFilter" -}}
EnvoyFilter
{{- else -}}
{{- fail "istio.api is `auto`, but this cluster has none of TrafficExtension, WasmPlugin, EnvoyFilter: install Istio first, or (for `helm template`) set istio.api or pass --api-versions" -}}
{{- end -}}
{{- end }}

{{- define "tracemeter.url" -}}
{{- default (printf "oci://registry.example/tracemeter:%s" .Chart.AppVersion) .Values.filter.url -}}
{{- end }}

{{- define "tracemeter.filterName" -}}
{{ include "tracemeter.fullname" . }}{{ if eq .Values.filter.scope "waypoint" }}-waypoint{{ end }}
{{- end }}

{{- define "tracemeter.filterNamespace" -}}
{{- if eq .Values.filter.scope "gateway" -}}
{{ .Values.filter.gateway.namespace }}
{{- else if eq .Values.filter.scope "waypoint" -}}
{{ .Values.filter.waypoint.namespace }}
{{- else -}}
{{ .Values.istio.rootNamespace }}
{{- end -}}
{{- end }}

{{- /* Labels of the workloads, or nothing for all. */ -}}
{{- define "tracemeter.workloads" -}}
{{- if eq .Values.filter.scope "opt-in" -}}
tracemeter.io/enabled: "true"
{{- else if eq .Values.filter.scope "gateway" -}}
{{ toYaml .Values.filter.gateway.selector }}
{{- end -}}
{{- end }}

{{- /* The policy for the filter; what it says itself wins. */ -}}
{{- define "tracemeter.filterConfig" -}}
{{- $host := include "tracemeter.host" . -}}
{{- $defaults := dict "export" (dict "cluster" (printf "outbound|4318||%s" $host) "authority" $host) -}}
{{- if eq .Values.filter.scope "gateway" -}}
{{- $_ := set $defaults "service" (dict "direction" "gateway") -}}
{{- else if eq .Values.filter.scope "waypoint" -}}
{{- $_ := set $defaults "service" (dict "direction" "inbound") -}}
{{- end -}}
{{- $filter := merge (omit (deepCopy .Values.policy) "alerts" "trace_storage") $defaults -}}
{{ toJson $filter }}
{{- end }}
