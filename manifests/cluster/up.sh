#!/usr/bin/env bash
# Brings up a kind cluster with everything that Ninefold stands on, then overlay kind. Run it again after a failure or a
# change: what is there stays, and only what differs is changed. Versions: manifests/versions.env.
set -euo pipefail
cd "$(dirname "$0")/../.."
set -a
# shellcheck source=manifests/versions.env
. manifests/versions.env
set +a
PYTHON=${PYTHON:-.venv/bin/python}
name=ninefold

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 2; }
apply() { kubectl apply --server-side --force-conflicts --field-manager=ninefold-cluster "$@"; }
ready() { kubectl --namespace "$1" wait --for=condition=Available --timeout="${2:-300}s" deployment --all; }
at() { printf 'https://github.com/%s/releases/download/%s' "$1" "$2"; }

for tool in docker kind kubectl helm; do
    command -v "$tool" >/dev/null || die "make cluster needs $tool on the PATH."
done
docker info >/dev/null 2>&1 || die "make cluster needs a docker engine that answers: docker info"

say "kind $KUBERNETES_VERSION"
kind get clusters | grep -qx "$name" || kind create cluster --config kind-config.yaml --image "kindest/node:$KUBERNETES_VERSION" --wait 120s
KUBECONFIG=$(mktemp)
trap 'rm -f "$KUBECONFIG"' EXIT
export KUBECONFIG
kind get kubeconfig --name "$name" > "$KUBECONFIG"

say "cert-manager $CERT_MANAGER_VERSION"
apply -f "$(at cert-manager/cert-manager "$CERT_MANAGER_VERSION")/cert-manager.yaml"
ready cert-manager

say "Gateway API and Envoy Gateway $ENVOY_GATEWAY_VERSION"
# Envoy Gateway's own file brings the Gateway API that it was made for.
apply -f "$(at envoyproxy/gateway "$ENVOY_GATEWAY_VERSION")/install.yaml"
ready envoy-gateway-system

say "Prometheus operator's definitions $PROMETHEUS_OPERATOR_VERSION"
# They let ServiceMonitors be applied; Prometheus itself is yours to bring.
apply -f "$(at prometheus-operator/prometheus-operator "$PROMETHEUS_OPERATOR_VERSION")/stripped-down-crds.yaml"

say "KServe $KSERVE_VERSION, Standard mode with the Gateway API"
for chart in kserve-crd kserve-resources; do
    settings=()
    if [ "$chart" = kserve-resources ]; then
        settings=(
            --set kserve.controller.deploymentMode=Standard
            --set kserve.controller.gateway.ingressGateway.enableGatewayApi=true
            --set kserve.controller.gateway.ingressGateway.createGateway=true
        )
    fi
    helm upgrade --install "$chart" "oci://ghcr.io/kserve/charts/$chart" --version "$KSERVE_VERSION" \
        --namespace kserve --create-namespace --wait --timeout 5m "${settings[@]}"
done

# It comes without a security context, and a namespace under restricted Pod Security would refuse its pods.
kubectl patch clusterstoragecontainer default --type merge --patch-file manifests/cluster/storage-initializer.yaml

say "Kubeflow Pipelines $KFP_VERSION, Kubernetes-native"
pipelines="github.com/kubeflow/pipelines/manifests/kustomize/env/cert-manager"
apply -k "$pipelines/cluster-scoped-resources?ref=$KFP_VERSION"
kubectl wait --for=condition=Established --timeout=60s crd/pipelines.pipelines.kubeflow.org crd/pipelineversions.pipelines.kubeflow.org
apply -k "$pipelines/platform-agnostic-k8s-native?ref=$KFP_VERSION"
ready kubeflow 900

say "The model store: a bucket in Kubeflow Pipelines' own"
apply -f manifests/cluster/model-store.yaml
kubectl --namespace kubeflow exec deployment/seaweedfs -- sh -c 'echo "s3.bucket.list" | weed shell | grep -q ninefold || echo "s3.bucket.create --name ninefold" | weed shell'
secret() { kubectl --namespace kubeflow get secret mlpipeline-minio-artifact --output "jsonpath={.data.$1}" | base64 --decode; }
AWS_ACCESS_KEY_ID=$(secret accesskey) AWS_SECRET_ACCESS_KEY=$(secret secretkey) PYTHONPATH=. "$PYTHON" -m manifests.kind_secrets

say "Images"
for image in serving pipeline; do
    full="localhost/ninefold/$image:$NINEFOLD_VERSION"
    docker image inspect "$full" >/dev/null 2>&1 || die "There is no image $full: run make images."
    kind load docker-image "$full" --name "$name"
done

say "Ninefold"
kubectl apply -k manifests/overlays/kind
kubectl --namespace ninefold rollout status statefulset/postgres statefulset/redis --timeout=300s
ready ninefold
kind export kubeconfig --name "$name"
cat <<END

Applications:  http://localhost:8080   models: http://localhost:8085
Key:           manifests/overlays/kind/secrets/client-key
Next:          ninefold submit training arrivals, or make e2e
END
