{{/* Weights that are fetched: an init container and the volume it writes to. */}}

{{- define "darkroom.weightsCache" -}}
{{- $cache := .Values.weightsCache -}}
{{- if eq $cache.type "hostPath" -}}
hostPath: { path: {{ $cache.hostPath }}, type: Directory }
{{- else if eq $cache.type "persistentVolumeClaim" -}}
persistentVolumeClaim: { claimName: {{ $cache.claimName }} }
{{- else -}}
emptyDir: { sizeLimit: {{ $cache.sizeLimit }} }
{{- end }}
{{- end }}

{{/* Fetches a file once, under the name of its checksum; pods of a node may do so at once, and none ever sees half a file. */}}
{{- define "darkroom.download" -}}
- name: weights
  image: {{ .root.Values.weightsDownload.image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
    - /bin/sh
    - -euc
    - |
      folder=$CACHE/$SHA256
      [ ! -f "$folder/$FILE" ] || exit 0
      mkdir -p "$folder"
      part=$folder/$HOSTNAME.part
      trap 'rm -f "$part"' EXIT
      curl --fail --location --silent --show-error --retry 5 --output "$part" "$URL"
      echo "$SHA256  $part" | sha256sum -c -
      mv "$part" "$folder/$FILE"
  env:
    - name: CACHE
      value: /models
    - name: URL
      value: {{ .download.url | quote }}
    - name: SHA256
      value: {{ .download.sha256 | quote }}
    - name: FILE
      value: {{ .download.file | quote }}
  resources:
    {{- toYaml .root.Values.weightsDownload.resources | nindent 4 }}
  securityContext:
    {{- include "darkroom.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - { name: weights, mountPath: /models }
{{- end }}
