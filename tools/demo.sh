#!/usr/bin/env bash
# The first run: a three-node lab, an application, its Service from inside and outside, who reaches whom, a policy, who
# reaches whom now, and why.
# Leaves the lab running. Every command it runs is printed, so it can be typed again.
set -euo pipefail
cd "$(dirname "$0")/.."

LAB=${LAB:-lab}
bold() { printf '\n\033[1m%s\033[0m\n' "$*"; }
say() { printf '\033[2m$ %s\033[0m\n' "$*"; }
run() { say "$*"; "$@"; }

bold "1. A Kubernetes of three nodes, with Cilium as its network"
if cilium lab status --name "$LAB" >/dev/null 2>&1; then
    echo "the lab '$LAB' is already up: using it (cilium lab down --name $LAB takes it away)"
else
    run cilium lab up --name "$LAB" --values examples/bookshop/values.yaml
fi
eval "$(cilium lab env --name "$LAB")"

bold "2. An application from ordinary manifests"
run kubectl delete -f examples/bookshop/policy.yaml --ignore-not-found >/dev/null
run kubectl apply -f examples/bookshop/app.yaml
run kubectl -n bookshop wait deployment --all --for=condition=Available --timeout=60s
run kubectl -n bookshop get pods -o wide

# pod_of APP prints the name of one pod, ip_of APP FAMILY its address.
pod_of() { kubectl -n bookshop get pods -l "app=$1" -o 'jsonpath={.items[0].metadata.name}'; }
ips_of() { kubectl -n bookshop get pods -l "app=$1" -o 'jsonpath={.items[0].status.podIPs[*].ip}'; }
pick() { for ip in $(ips_of "$1"); do case $2:$ip in 6:*:*|4:*.*) [[ $2 == 6 ]] && echo "[$ip]" || echo "$ip"; return;; esac; done; }

matrix() { # who reaches whom, over both families
    printf '%-12s' 'from \ to'
    for target in frontend:8080 catalog:8080 database:5432; do printf '%-22s' "$target"; done
    echo
    for source in visitor frontend catalog database; do
        printf '%-12s' "$source"
        for target in frontend:8080 catalog:8080 database:5432; do
            cell=
            if [[ $source == "${target%:*}" ]]; then printf '%-23s' '·'; continue; fi
            for family in 4 6; do
                url="http://$(pick "${target%:*}" $family):${target#*:}/"
                if kubectl -n bookshop exec "$(pod_of "$source")" -- \
                        curl -gsS -o /dev/null -m 1 --connect-timeout 1 "$url" >/dev/null 2>&1; then
                    cell+="v$family ✓  "
                else
                    cell+="v$family ✗  "
                fi
            done
            printf '%-26s' "$cell"
        done
        echo
    done
}

bold "3. A Service: from a pod, and from outside through a node that need not have a backend"
service() { kubectl -n bookshop get service frontend -o "jsonpath=$1"; }
node=$(kubectl get node node1 -o 'jsonpath={.status.addresses[0].address}')
if [[ $(kubectl -n kube-system get configmap cilium-config -o 'jsonpath={.data.kube-proxy-replacement}') == true ]]; then
    run kubectl -n bookshop get service frontend
    run kubectl -n bookshop exec "$(pod_of visitor)" -- curl -sS -m 2 "http://$(service '{.spec.clusterIP}')/"
    run cilium lab node --name "$LAB" external -- curl -sS -m 2 "http://$node:$(service '{.spec.ports[0].nodePort}')/"
else
    echo "this lab was brought up without kubeProxyReplacement: see docs/tasks/services.md"
fi

bold "4. Who reaches whom, without a policy"
matrix

bold "5. Policies: visitors → frontend → catalog → database, and nothing else"
run kubectl apply -f examples/bookshop/policy.yaml
run kubectl -n bookshop get ciliumnetworkpolicies
bold "6. Who reaches whom now"
matrix

bold "7. What the datapath saw, and which policy decided"
for app in catalog database; do
    node=$(kubectl -n bookshop get pods -l app=$app -o 'jsonpath={.items[0].spec.nodeName}')
    agent=$(kubectl -n kube-system get pods -l k8s-app=cilium --field-selector "spec.nodeName=$node" -o name)
    run kubectl -n kube-system exec "$agent" -- \
        hubble observe --to-pod "bookshop/$app" --from-namespace bookshop --type policy-verdict --print-policy-names --last 6
done
bold "8. The agent that enforces it"
run kubectl -n kube-system exec ds/cilium -- cilium-dbg endpoint list

cat <<TXT

The lab '$LAB' is running. Try next, in a shell of your own:

    source .venv/bin/activate                           cilium, kubectl, hubble on the PATH
    eval "\$(cilium lab env --name $LAB)"
                                                        KUBECONFIG of this lab
    cilium status                                       agents, operator, their errors
    kubectl -n kube-system exec ds/cilium -- hubble observe --follow
                                                        flows of one node as they happen
    kubectl -n kube-system exec ds/cilium -- cilium-dbg bpf policy get --all
                                                        what the kernel enforces there
    kubectl -n kube-system exec ds/cilium -- cilium-dbg service list
                                                        Services, and who answers
    kubectl -n bookshop delete cnp catalog              open the catalog again
    cilium lab node --name $LAB node1 -- ip route
                                                        a command on a node
    cilium lab down --name $LAB                            leaves nothing behind

Read on in docs/getting-started.md.
TXT
