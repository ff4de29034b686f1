{{/* The models' pools of workers, computed once for all templates. */}}

{{/*
A list of the pools that are run: of each its stage, Service, model, and the values that hold for it. A model that shares another one's has none
of its own.
*/}}
{{- define "darkroom.pools" -}}
{{- $root := . -}}
{{- $pools := list -}}
{{- range $model := .Values.models -}}
  {{- range $key, $stage := dict "textEncoder" "text-encoder" "denoiser" "denoiser" "vae" "vae" -}}
    {{- if not (index (default dict $model.shares) $key) -}}
      {{- $values := mergeOverwrite (deepCopy (index $root.Values.stages $key)) (deepCopy (default dict (index $model $key))) -}}
      {{- $pool := dict "key" $key "stage" $stage "model" $model.name "values" $values -}}
      {{- $_ := set $pool "name" (include "darkroom.pool" (list $root $model.name $stage)) -}}
      {{- $_ := set $pool "served" (include "darkroom.served" $model) -}}
      {{- $_ := set $pool "weights" (default dict $model.weights) -}}
      {{- $_ := set $pool "loras" (ternary (default dict $model.loras) dict (ne $stage "vae")) -}}
      {{- $_ := set $pool "textualInversions" (ternary (default dict $model.textualInversions) dict (eq $stage "text-encoder")) -}}
      {{- $scaling := mergeOverwrite (deepCopy $root.Values.autoscaling.denoiser) (deepCopy (default dict $model.autoscaling)) -}}
      {{- $_ := set $pool "scaling" (ternary $scaling dict (and (eq $stage "denoiser") (ne $root.Values.autoscaling.mode "none"))) -}}
      {{- $pools = append $pools $pool -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{ toYaml $pools }}
{{- end }}

{{/*
What a model's denoisers call it, and so requests and series do: the name of its folder, or of its file without the ending.
*/}}
{{- define "darkroom.served" -}}
{{- $weights := default dict .weights -}}
{{- $path := "pocket" -}}
{{- with $weights.download }}{{ $path = .file }}{{ end -}}
{{- with $weights.path }}{{ $path = . }}{{ end -}}
{{ regexReplaceAll "\\.(safetensors|ckpt)$" (base (trimSuffix "/" $path)) "" }}
{{- end }}

{{/* The name of a pool's objects: (list $ model stage). */}}
{{- define "darkroom.pool" -}}
{{ printf "%s-%s-%s" (include "darkroom.fullname" (index . 0)) (index . 1) (index . 2) }}
{{- end }}

{{/* Where orchestrators find a model's workers of a stage: (list $ model key stage). */}}
{{- define "darkroom.workers" -}}
{{- $root := index . 0 -}}
{{- $model := index . 1 -}}
{{- $owner := default $model.name (index (default dict $model.shares) (index . 2)) -}}
{{ printf "dns:///%s.%s:7000" (include "darkroom.pool" (list $root $owner (index . 3))) (include "darkroom.domain" $root) }}
{{- end }}

{{/* Not empty where some model's denoisers may be scaled to none. */}}
{{- define "darkroom.toZero" -}}
{{- if ne .Values.autoscaling.mode "none" -}}
{{- range include "darkroom.pools" . | fromYamlArray -}}
{{- if and .scaling (eq (int .scaling.minReplicas) 0) -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* What the schema cannot say of values together. */}}
{{- define "darkroom.refusals" -}}
{{- $root := . -}}
{{- $owners := dict -}}
{{- $files := dict -}}
{{- range .Values.models -}}
  {{- if hasKey $owners .name -}}{{- fail (printf "models: two are called %q" .name) -}}{{- end -}}
  {{- $_ := set $owners .name . -}}
  {{- $served := include "darkroom.served" . -}}
  {{- if hasKey $files $served -}}{{- fail (printf "models: the files or folders of %s and %s have one name, %q, by which requests choose" (get $files $served) .name $served) -}}{{- end -}}
  {{- $_ := set $files $served .name -}}
{{- end -}}
{{- range $model := .Values.models -}}
  {{- range $key, $name := default dict $model.shares -}}
    {{- $owner := get $owners $name -}}
    {{- if not $owner -}}{{- fail (printf "models: %s shares the %s of %q, which is no model" $model.name $key $name) -}}{{- end -}}
    {{- if index (default dict $owner.shares) $key -}}{{- fail (printf "models: %s shares the %s of %s, which has none of its own" $model.name $key $name) -}}{{- end -}}
  {{- end -}}
  {{- if and (index (default dict $model.shares) "textEncoder") (or $model.loras $model.textualInversions) -}}
    {{- fail (printf "models: %s has loras or textualInversions, which the text encoders that it shares would not read" $model.name) -}}
  {{- end -}}
  {{- $weights := default dict $model.weights -}}
  {{- if and (or $weights.volume $weights.image) (not $weights.path) -}}{{- fail (printf "models: %s: weights.path says where in the volume or image the model is" $model.name) -}}{{- end -}}
{{- end -}}
{{- range include "darkroom.pools" . | fromYamlArray -}}
  {{- if and (eq .stage "denoiser") .values.gpu (not (index .values.settings "memory_limit_mib")) -}}
    {{- fail (printf "models: %s: a denoiser with a GPU needs settings.memory_limit_mib: what it finds by itself is the host's memory" .model) -}}
  {{- end -}}
  {{- if .scaling -}}
    {{- if gt (int .scaling.minReplicas) (int .scaling.maxReplicas) -}}{{- fail (printf "autoscaling of %s: minReplicas %d is more than maxReplicas %d" .model (int .scaling.minReplicas) (int .scaling.maxReplicas)) -}}{{- end -}}
    {{- if and (eq $root.Values.autoscaling.mode "hpa") (eq (int .scaling.minReplicas) 0) -}}{{- fail (printf "autoscaling of %s: minReplicas 0 needs mode keda" .model) -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- if and (eq .Values.autoscaling.mode "keda") (not .Values.autoscaling.prometheus.serverAddress) -}}
  {{- fail "autoscaling.prometheus.serverAddress: mode keda asks a Prometheus" -}}
{{- end -}}
{{- $wait := .Values.orchestrator.settings.no_worker_wait_seconds -}}
{{- if and (include "darkroom.toZero" .) (not (kindIs "invalid" $wait)) -}}
  {{- if not $wait -}}{{- fail "orchestrator.settings.no_worker_wait_seconds: 0 refuses the requests that would start the first denoiser" -}}{{- end -}}
{{- end -}}
{{- if and .Values.orchestrator.requireKey (not .Values.orchestrator.clients.secretName) -}}
  {{- fail "orchestrator.requireKey: orchestrator.clients.secretName names the clients' keys" -}}
{{- end -}}
{{- if eq .Values.weightsCache.type "persistentVolumeClaim" -}}
  {{- if not .Values.weightsCache.claimName -}}{{- fail "weightsCache.claimName: which claim?" -}}{{- end -}}
{{- end -}}
{{- if not .Values.tls.certManager.enabled -}}
  {{- if and .Values.tls.public.enabled (not .Values.tls.public.secretName) -}}{{- fail "tls.public.secretName: a Secret with the certificate, or tls.certManager.enabled" -}}{{- end -}}
  {{- if and .Values.tls.stages.enabled (not (and .Values.tls.stages.secretName .Values.tls.stages.clientSecretName)) -}}{{- fail "tls.stages.secretName and clientSecretName: Secrets with the certificates, or tls.certManager.enabled" -}}{{- end -}}
{{- else -}}
  {{- if and .Values.tls.public.enabled (not .Values.tls.public.secretName) (not .Values.tls.certManager.publicIssuer.name) -}}{{- fail "tls.certManager.publicIssuer.name: who signs the public certificate?" -}}{{- end -}}
{{- end -}}
{{- end }}

{{/* Names of the Secrets of TLS, given or made. */}}
{{- define "darkroom.publicSecret" -}}
{{ default (printf "%s-public-tls" (include "darkroom.fullname" .)) .Values.tls.public.secretName }}
{{- end }}
{{- define "darkroom.clientSecret" -}}
{{ default (printf "%s-client-tls" (include "darkroom.fullname" .)) .Values.tls.stages.clientSecretName }}
{{- end }}
{{- define "darkroom.stageSecret" -}}
{{ default (printf "%s-tls" (index . 1)) (index . 0).Values.tls.stages.secretName }}
{{- end }}
