#!/usr/bin/env bash
# The chart: helm lint; every example and more, rendered for the Kubernetes it is for and held against their schemas (kubeconform) and the
# operators' definitions; what has to follow the configuration does; what can't work is refused, by name.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need helm kubeconform
CHART=deploy/helm/astromech
NEWEST=${KUBERNETES_VERSIONS[-1]}
export HELM_CACHE_HOME=$WORK/cache HELM_CONFIG_HOME=$WORK/config HELM_DATA_HOME=$WORK/data

# render FILE ARGUMENTS…: for the newest Kubernetes, unless --kube-version says another.
render() { "$HELM" template search "$CHART" --namespace shop --kube-version "$NEWEST" "${@:2}" >"$1" 2>"$WORK/helm.log" || { grep -v 'symbolic link' "$WORK/helm.log" >&2; return 1; }; }
valid() { "$KUBECONFORM" -strict -skip ServiceMonitor,PrometheusRule,ScaledObject -kubernetes-version "$1" -schema-location "$ASTROMECH_CACHE/kubernetes-schemas/{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json" "$2"; }

# values NAME: stdin as a values file; prints its path. configured NAME SED LINES: the default configuration, changed, with further lines.
values() { cat >"$WORK/$1.values.yaml" && echo "$WORK/$1.values.yaml"; }
base=$(sed -n '/^config: |$/,$p' "$CHART/values.yaml" | tail -n +2)
configured() { { echo 'config: |' && sed "${2:-}" <<<"$base" && sed 's/^/  /' <<<"${3:-}"; } | values "$1"; }

# The examples, and what they leave out.
declare -A cases=([default]='')
for file in "$CHART"/examples/*.yaml; do cases[$(basename "$file" .yaml)]="-f $file"; done
cases[no-account]='--set serviceAccount.create=false,preStopSeconds=0'
cases[claim]='--set bundle.existingClaim=models --set image.tag=1.2.3'
cases[another-volume]='--set bundle.volume.nfs.server=nas,bundle.volume.nfs.path=/models'
cases[image-volume]='--set bundle.volume.hostPath.path=/models'
cases[long-name]="--set fullnameOverride=$(printf 'a%.0s' {1..52}),refresh.enabled=true,refresh.existingConfigMap=r"
cases[two-env]='--set env[0].name=QDRANT_URL,env[0].value=http://q:6334,extraEnv[0].name=X,extraEnv[0].value=y,extraEnvFrom[0].secretRef.name=s'
cases[retention]="-f $CHART/examples/embedded.yaml --set persistence.retentionPolicy.whenDeleted=Retain,persistence.retentionPolicy.whenScaled=Retain"
crds=()
for name in "${!cases[@]}"; do
  read -ra arguments <<<"${cases[$name]}"
  for version in "${KUBERNETES_VERSIONS[@]}"; do
    file=$WORK/$name-$version.rendered.yaml
    holds "$name renders for Kubernetes $version" render "$file" "${arguments[@]}" --kube-version "$version"
    holds "$name is valid for Kubernetes $version" valid "$version" "$file"
  done
  holds "helm lint --strict: $name" "$HELM" lint --strict "$CHART" --kube-version "$NEWEST" "${arguments[@]}"
  crds+=("$WORK/$name-$NEWEST.rendered.yaml")
done
holds "Prometheus' operator and KEDA take theirs" node "$ASTROMECH_CACHE/operators/check.mjs" "${crds[@]}"
rendered() { echo "$WORK/$1-$NEWEST.rendered.yaml"; }

# What is packed is what is released: the alerts are a link here and a file there.
holds 'helm package' "$HELM" package "$CHART" --destination "$WORK/packed"
holds 'the packed chart renders' "$HELM" template search "$WORK"/packed/astromech-*.tgz --kube-version "$NEWEST" --set prometheusRule.enabled=true,metrics.job=fleet
"$HELM" template search "$WORK"/packed/astromech-*.tgz --kube-version "$NEWEST" --set prometheusRule.enabled=true,metrics.job=fleet >"$WORK/packed.yaml"
has 'the alerts of the packed chart' "$WORK/packed.yaml" 'absent(up{job="fleet"})'
lacks 'the alerts of the packed chart' "$WORK/packed.yaml" 'job="astromech"'

# One workload, one source for the bundle, one way to scrape.
has 'a Deployment for Qdrant' "$(rendered default)" 'kind: Deployment'
lacks 'a Deployment for Qdrant' "$(rendered default)" 'kind: StatefulSet'
has 'the probes' "$(rendered default)" 'path: /readyz/search'
holds 'the probes: startup and liveness ask /healthz' test "$(grep -c 'path: /healthz' "$(rendered default)")" = 2
holds 'the probes: by HTTP' test "$(grep -c 'scheme: HTTP$' "$(rendered default)")" = 3
has 'the annotations' "$(rendered default)" 'prometheus.io/port: "8080"'
has 'another volume' "$(rendered another-volume)" 'server: nas'
lacks 'another volume' "$(rendered another-volume)" 'persistentVolumeClaim'
for text in 'kind: StatefulSet' 'volumeClaimTemplates:' 'replicas: 1' 'serviceName: search-astromech-headless' 'storageClassName: "fast"' 'kind: PodDisruptionBudget'; do
  has 'the embedded engine' "$(rendered embedded)" "$text"
done
lacks 'the embedded engine' "$(rendered embedded)" 'kind: Deployment'
holds 'the embedded engine: its state is the claim, and only /tmp goes with the pod' test "$(grep -c emptyDir "$(rendered embedded)")" = 1
for text in 'args: [bundle, fetch, --config, /etc/astromech/astromech.toml, --to, "/bundle/current"]' 'emptyDir: {"sizeLimit":"8Gi"}' 'containerPort: 8443' 'scheme: HTTPS' 'scheme: https' \
  'appProtocol: https' 'kind: CronJob' 'values: [10, 11, 12, 13]' 'namespace="shop"' 'kind: ServiceMonitor'; do
  has 'the registry' "$(rendered registry)" "$text"
done
holds 'the probes: by HTTPS' test "$(grep -c 'scheme: HTTPS$' "$(rendered registry)")" = 3
lacks 'a ServiceMonitor in place of annotations' "$(rendered registry)" prometheus.io
for text in 'nvidia.com/gpu: 1' 'runtimeClassName: nvidia' 'replacement: cuda'; do has 'the GPU' "$(rendered gpu)" "$text"; done
for text in 'kind: ScaledObject' 'sum(astromech_partition_lag{job=\"search-astromech\",namespace=\"shop\"})' 'threshold: "2000"' 'whenUnsatisfiable: ScheduleAnyway'; do
  has 'KEDA' "$(rendered keda)" "$text"
done
lacks 'KEDA sets the replicas' "$(rendered keda)" 'replicas: 1'
for text in 'kind: NetworkPolicy' '["Ingress","Egress"]' 'name: registry' 'serviceAccountName: search' 'kind: HorizontalPodAutoscaler' 'mountPath: /etc/ca' 'name: SSL_CERT_FILE' 'sidecar.istio.io/inject'; do
  has 'what is locked down' "$(rendered locked-down)" "$text"
done
has 'preStop of Kubernetes 1.30' "$(rendered default)" 'sleep: {seconds: 5}'
has 'preStop before it' "$WORK/default-1.27.0.rendered.yaml" 'exec: {command: [sleep, "5"]}'
has 'variables' "$(rendered two-env)" 'name: X'

values nfs >/dev/null <<<'bundle: {volume: {nfs: {server: nas, path: /models}}}'
render "$WORK/null.yaml" -f "$WORK/nfs.values.yaml" -f "$(values null <<<'bundle: {volume: {nfs: null, emptyDir: {sizeLimit: 1Gi}}}')"
has 'a source that is taken away by null' "$WORK/null.yaml" 'sizeLimit: 1Gi'
lacks 'a source that is taken away by null' "$WORK/null.yaml" nfs

# A port out of the environment, as the daemon reads it.
render "$WORK/port.yaml" -f "$(configured port 's/0.0.0.0:8080/${HOST:-0.0.0.0}:${PORT:-8081}/')"
has 'the port of ${PORT:-8081}' "$WORK/port.yaml" 'containerPort: 8081'
render "$WORK/port.yaml" -f "$(configured port 's/0.0.0.0:8080/${HOST:-0.0.0.0}:${PORT:-8081}/')" --set-string 'extraEnv[0].name=PORT,extraEnv[0].value=9999'
has 'the port of PORT=9999' "$WORK/port.yaml" 'containerPort: 9999'
render "$WORK/keyed.yaml" -f "$(configured keyed '' $'[http.auth]\nmetrics_open = false\n[http.auth.read_keys]\n"a" = "/run/secrets/astromech/a"')"
lacks 'nothing scrapes without a key' "$WORK/keyed.yaml" prometheus.io
render "$WORK/mutual.yaml" -f "$(configured mutual '' $'[http.tls]\ncertificate_file = "/c"\nkey_file = "/k"\nclient_ca_file = "/ca"')" --set 'probes.readiness.exec.command={true}'
holds 'clients with certificates: the port alone is looked at' test "$(grep -c 'tcpSocket:' "$WORK/mutual.yaml")" = 2
# What a values file says of the same key counts, once.
render "$WORK/own.yaml" --set 'probes.liveness.periodSeconds=77,podAnnotations.prometheus\.io/scrape=no,podLabels.app\.kubernetes\.io/name=x,podLabels.team=y,commonLabels.helm\.sh/chart=z' --set-string image.digest="sha256:$(printf '0%.0s' {1..64})"
holds 'values of our own keys' valid "$NEWEST" "$WORK/own.yaml"
for text in 'periodSeconds: 77' 'prometheus.io/scrape: "no"' 'team: "y"' 'helm.sh/chart: z' 'image: "astromech@sha256:0'; do has 'values of our own keys' "$WORK/own.yaml" "$text"; done
lacks 'the labels that the selector wants stay' "$WORK/own.yaml" 'app.kubernetes.io/name: x'
render "$WORK/rules.yaml" --set 'prometheusRule.enabled=true,prometheusRule.disabled={AstromechNotOnCuda}'
has 'the alerts' "$WORK/rules.yaml" 'alert: AstromechGone'
lacks 'an alert that is left out' "$WORK/rules.yaml" 'alert: AstromechNotOnCuda'
# The rules as they come out of the chart are rules still.
"$LOCAL_DIR/install.sh" promtool 2>/dev/null
sed -n '/^kind: PrometheusRule/,$p' "$WORK/rules.yaml" | sed -n '/^  groups:/,$p' | sed 's/^  //' >"$WORK/groups.yaml"
holds "promtool takes the chart's rules" "$PROMTOOL" check rules "$WORK/groups.yaml"

# refused NAME TEXT ARGUMENTS…: it is not rendered, and the error says TEXT.
refused() {
  CHECKED=$((CHECKED + 1))
  if render "$WORK/refused.yaml" "${@:3}" 2>"$WORK/said"; then fault "$1 is rendered"; return; fi
  has "the refusal of $1" "$WORK/said" "$2"
}
EMBEDDED=(-f "$CHART/examples/embedded.yaml")
refused 'two sources of the bundle' 'bundle.volume has 2 sources (emptyDir, nfs)' --set bundle.volume.emptyDir.sizeLimit=1Gi,bundle.volume.nfs.server=nas
refused 'a misspelt value' "'replica' not allowed" --set replica=3
refused 'replicas that are a text' '/replicas' --set-string replicas=three
refused 'two replicas of the embedded engine' 'replicas is 2, but the embedded index is one daemon' "${EMBEDDED[@]}" --set replicas=2
refused 'the embedded engine with HPA' 'autoscaling and keda need index.engine = "qdrant"' "${EMBEDDED[@]}" --set autoscaling.enabled=true
refused 'the embedded engine with KEDA' 'autoscaling and keda need index.engine = "qdrant"' "${EMBEDDED[@]}" --set keda.enabled=true,keda.serverAddress=http://p:9090
refused 'HPA and KEDA' 'would both set the number of replicas' --set autoscaling.enabled=true,keda.enabled=true,keda.serverAddress=http://p:9090
refused 'KEDA without Prometheus' 'keda.serverAddress' --set keda.enabled=true
refused 'KEDA down to nothing' '/keda/minReplicas' --set keda.enabled=true,keda.minReplicas=0,keda.serverAddress=http://p:9090
refused 'the embedded engine without a place' 'index.embedded.path is "data/index", where the pod can' -f "$(configured no-place 's/engine = "qdrant"/engine = "embedded"/')"
refused 'the embedded engine in /tmp' 'which goes with the pod' -f "$(configured in-tmp 's/engine = "qdrant"/engine = "embedded"/' $'[index.embedded]\npath = "/tmp/index"')"
refused 'an engine that there is not' 'index.engine is "milvus"' -f "$(configured engine 's/engine = "qdrant"/engine = "milvus"/')"
refused 'a daemon that listens to itself' 'which nothing outside the pod reaches' -f "$(configured loopback 's/0.0.0.0:8080/127.0.0.1:8080/')"
refused 'any free port' 'which nothing outside the pod reaches' -f "$(configured any-port 's/0.0.0.0:8080/0.0.0.0:0/')"
refused 'a port out of a Secret' "can't be read here" -f "$(configured hidden-port 's/0.0.0.0:8080/0.0.0.0:${PORT}/')"
refused 'a configuration that is no TOML' 'config is no TOML' -f "$(configured no-toml 's/^  \[http\]/  [http/')"
refused 'a bundle elsewhere' 'the bundle'"'"'s volume is mounted at /bundle' -f "$(configured elsewhere 's|path = "/bundle"|path = "/models/a"|')"
refused 'bundles that are rolled out to a place without rights' 'rollout.bundles is "bundles"' -f "$(configured rollout '' $'[rollout]\nregistry = "s3://models/a"')"
refused 'a disk cache without rights' 'rescore.cache.disk_path is "/cache"' -f "$(configured cache '' $'[rescore.cache]\ndisk_path = "/cache"')"
refused 'a fetch without a registry' 'needs a registry to fetch from' --set bundle.fetch.enabled=true
refused 'a fetch onto the mount itself' 'path = "/bundle/current"' -f "$CHART/examples/registry.yaml" --set-string config="$(printf '[bundle]\npath = "/bundle"\n[rollout]\nregistry = "s3://m/a"\nbundles = "/var/lib/astromech/b"\n[index]\nengine = "qdrant"\n[http]\nlisten = "0.0.0.0:80"\n')"
refused 'a drain that is cut off' 'terminationGracePeriodSeconds is 20' --set terminationGracePeriodSeconds=20
refused 'a long drain that is cut off' 'take up to 65 s' -f "$(configured drain 's/^  group = .*/  group = "g"\n  drain_timeout_ms = 60000/')"
refused 'certificates that the kubelet has not' 'cuts off the kubelet' -f "$(configured mutual '' $'[http.tls]\ncertificate_file = "/c"\nkey_file = "/k"\nclient_ca_file = "/ca"')"
refused 'metrics that want a key' 'serviceMonitor.authorization' -f "$(configured keyed '' $'[http.auth]\nmetrics_open = false\n[http.auth.read_keys]\n"a" = "/a"')" --set serviceMonitor.enabled=true
refused 'a refresh without a configuration' 'refresh.files with refresh.toml' --set refresh.enabled=true
refused 'an environment of a number' '/env/0/value' --set 'env[0].name=A,env[0].value=1'
refused 'an old Kubernetes' 'incompatible with Kubernetes' --kube-version 1.25.0

# What helm install says at the end, which template leaves out.
mkdir "$WORK/notes" && cp -rL "$CHART" "$WORK/notes/chart"
{ echo '{{- define "notes" -}}' && cat "$CHART/templates/NOTES.txt" && echo '{{- end -}}'; } >"$WORK/notes/chart/templates/_notes.tpl"
printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: {{ include "notes" . | quote }}\n' >"$WORK/notes/chart/templates/notes.yaml"
notes() { "$HELM" template search "$WORK/notes/chart" --kube-version "$NEWEST" --show-only templates/notes.yaml "${@:2}" 2>/dev/null >"$1"; }
notes "$WORK/said" "${EMBEDDED[@]}"
has 'the notes of the embedded engine' "$WORK/said" 'The index is in the claim state-search-astromech-0'
has 'the notes without keys' "$WORK/said" 'No API key is set'
notes "$WORK/said" -f "$(configured cuda '' $'[runtime]\nprovider = "cuda"')"
has 'the notes without a device' "$WORK/said" 'no nvidia.com/gpu'

# The refresh job without the chart.
holds 'deploy/kubernetes/refresh.yaml' valid "$NEWEST" deploy/kubernetes/refresh.yaml
codes() { grep -oE 'operator: In, values: \[[^]]*\]' "$1"; }
[ "$(codes deploy/kubernetes/refresh.yaml)" = "$(codes $CHART/templates/refresh.yaml)" ] || fault 'the exit codes of the chart and of deploy/kubernetes/refresh.yaml differ'
[ -L "$CHART/files/alerts.yml" ] || fault "the chart's alerts are no link to deploy/prometheus/alerts.yml"
# Each value is explained.
while read -r key; do has 'the README of the chart' "$CHART/README.md" "\`$key"; done < <(grep -oE '^[a-zA-Z]+:' "$CHART/values.yaml" | tr -d :)
summary "the chart, ${#cases[@]} sets of values by ${#KUBERNETES_VERSIONS[@]} versions of Kubernetes"
