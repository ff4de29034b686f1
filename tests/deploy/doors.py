"""Who can reach whom by a release's NetworkPolicies, worked out as Kubernetes does, pod by pod, beside who should."""

from meaning import COMPONENT, STAGES, labels, matches

GRPC, HTTP = 7000, 8000


class Pod:
    """A pod as policies see it."""

    def __init__(self, name, namespace, labels, ports=None):
        self.name, self.namespace, self.labels, self.ports = name, namespace, labels, ports or {}

    def is_peer(self, peers, namespace):
        """Whether it is among `peers` of a policy in `namespace`; no list is everybody."""
        if not peers:
            return True
        for peer in peers:
            if "ipBlock" in peer:
                continue
            if "namespaceSelector" in peer:
                inside = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": self.namespace})
            else:
                inside = self.namespace == namespace
            if inside and matches(peer.get("podSelector", {}), self.labels):
                return True
        return False

    def has_port(self, wanted, number):
        if not wanted:
            return True
        return any(self.ports.get(one["port"], one["port"]) == number and one.get("protocol", "TCP") == "TCP" for one in wanted)


def allowed(policies, source, target, number):
    """Both ends must let it through; an end that no policy selects lets everything through."""

    def passes(pod, other, kind, rules, peers):
        ruling = [one for one in policies if one["metadata"]["namespace"] == pod.namespace and matches(one["spec"]["podSelector"], pod.labels)]
        ruling = [one for one in ruling if kind in one["spec"]["policyTypes"]]
        if not ruling:
            return True
        return any(
            other.is_peer(rule.get(peers), pod.namespace) and target.has_port(rule.get("ports"), number)
            for one in ruling
            for rule in one["spec"].get(rules, [])
        )

    return passes(source, target, "Egress", "egress", "to") and passes(target, source, "Ingress", "ingress", "from")


def check(release):
    policies = release.of("NetworkPolicy")
    if not policies:
        assert release.values["networkPolicy"]["enabled"] is False
        return
    namespace = policies[0]["metadata"]["namespace"]
    ours = [Pod(one["metadata"]["name"], namespace, labels(one), {"grpc": GRPC, "http": HTTP}) for one in release.deployments]
    another = dict(next(pod.labels for pod in ours if pod.labels[COMPONENT] == "orchestrator"), **{"app.kubernetes.io/instance": "another"})
    strangers = [
        Pod("a pod beside", namespace, {"app": "shell"}),
        Pod("another release's orchestrator", namespace, another),
        Pod("an orchestrator elsewhere", "elsewhere", next(pod.labels for pod in ours if pod.labels[COMPONENT] == "orchestrator")),
        Pod("a pod elsewhere", "elsewhere", {"app": "shell"}),
        Pod("Prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"}),
        Pod("a gateway", "gateway", {"app": "envoy"}),
    ]
    dns = Pod("DNS", "kube-system", {"k8s-app": "kube-dns"})
    clients = release.values.get("networkPolicy", {}).get("clients")
    for target in ours:
        is_stage = target.labels[COMPONENT] in STAGES
        for source in ours + strangers:
            if source is target:
                continue
            is_ours, watches = source in ours, source.namespace == "monitoring"
            if is_stage:
                may_call = is_ours and source.labels[COMPONENT] == "orchestrator"
            else:
                # A worker has no business with an orchestrator, nor an orchestrator with another one.
                may_call = not is_ours and (not clients or source.namespace == "gateway")
            for number, right in ((GRPC, may_call), (HTTP, watches), (22, False)):
                found = allowed(policies, source, target, number)
                assert found == right, f"{source.name} {'reaches' if found else 'does not reach'} port {number} of {target.name}"
        # Names are looked up by who has an address to find: orchestrators always, stages only for weights and traces.
        if not is_stage:
            assert allowed(policies, target, dns, 53), f"{target.name} cannot look up names"
        assert not allowed(policies, target, strangers[0], 80), f"{target.name} calls whom it likes"
