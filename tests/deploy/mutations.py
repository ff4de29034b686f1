"""That the checks of meaning and of doors can fail: right manifests, each time with one thing made wrong."""

import copy

import doors
from meaning import Release


def find(manifests, kind, end):
    return next(one for one in manifests if one["kind"] == kind and one["metadata"]["name"].endswith(end))


def pod(manifests, end):
    return find(manifests, "Deployment", end)["spec"]["template"]["spec"]


def rename_a_service(all):
    find(all, "Service", "-vae")["metadata"]["name"] += "-2"


def select_nothing(all):
    find(all, "Service", "-denoiser")["spec"]["selector"]["darkroom-model"] = "another"


def two_of_a_name(all):
    all.append(copy.deepcopy(find(all, "ServiceAccount", "-stages")))


def mount_a_token(all):
    pod(all, "-denoiser")["automountServiceAccountToken"] = True


def leave_too_late(all):
    pod(all, "-orchestrator")["terminationGracePeriodSeconds"] = 60


def count_replicas(all):
    find(all, "Deployment", "-denoiser")["spec"]["replicas"] = 2


def scale_another(all):
    find(all, "ScaledObject", "-denoiser")["spec"]["scaleTargetRef"]["name"] += "-2"


def ask_for_life_alone(all):
    pod(all, "-orchestrator")["containers"][0]["readinessProbe"]["httpGet"]["path"] = "/healthz"


def forget_the_gpu(all):
    del pod(all, "-denoiser")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]


def tell_a_key(all):
    find(all, "ConfigMap", "-orchestrator")["data"]["clients.toml"] = 'key_sha256 = "00"'


def write_the_root(all):
    pod(all, "-vae")["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def budget_twice(all):
    budget = copy.deepcopy(find(all, "PodDisruptionBudget", "-vae"))
    budget["metadata"]["name"] += "-2"
    all.append(budget)


def change_a_rule(all):
    find(all, "PrometheusRule", "")["spec"]["groups"][0]["rules"].pop()


def change_a_dashboard(all):
    find(all, "ConfigMap", "dashboard-workers")["data"]["darkroom-workers.json"] += " {}"


def lose_the_service_label(all):
    find(all, "PodMonitor", "")["spec"]["podMetricsEndpoints"][0]["relabelings"].pop(0)


def open_a_stage(all):
    del find(all, "NetworkPolicy", "-stages")["spec"]["ingress"][0]["from"]


def open_a_stage_to_stages(all):
    peer = find(all, "NetworkPolicy", "-stages")["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    del peer["app.kubernetes.io/component"]
    find(all, "NetworkPolicy", "-stages")["spec"]["egress"] = [{}]


def close_a_stage(all):
    find(all, "NetworkPolicy", "-orchestrator")["spec"]["egress"].pop()


def show_metrics_to_all(all):
    del find(all, "NetworkPolicy", "-orchestrator")["spec"]["ingress"][1]["from"]


def forget_names(all):
    find(all, "NetworkPolicy", "-orchestrator")["spec"]["egress"].pop(0)


WRONG = [
    rename_a_service,
    select_nothing,
    two_of_a_name,
    mount_a_token,
    leave_too_late,
    count_replicas,
    scale_another,
    ask_for_life_alone,
    forget_the_gpu,
    tell_a_key,
    write_the_root,
    budget_twice,
    change_a_rule,
    change_a_dashboard,
    lose_the_service_label,
    open_a_stage,
    open_a_stage_to_stages,
    close_a_stage,
    show_metrics_to_all,
    forget_names,
]


def try_the_checks(manifests, values):
    """`manifests` are right, scale to none, have GPUs and are watched."""
    for make_wrong in WRONG:
        wrong = copy.deepcopy(manifests)
        make_wrong(wrong)
        try:
            release = Release(wrong, values)
            release.check()
            doors.check(release)
        except (AssertionError, KeyError):
            continue
        raise SystemExit(f"no check sees it: {make_wrong.__name__}")
    print(f"{len(WRONG)} mistakes in manifests are seen")
