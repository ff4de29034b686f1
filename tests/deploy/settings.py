"""Every setting that a manifest gives a service, taken by that service's own program: its `--check-config` reads them and shows what it makes of them."""

import json
import os
import subprocess
import tomllib

from meaning import environment

# Settings that the chart gives and these programs do not have yet. Empty it as they come: what is listed here is not checked.
NOT_YET = {
    "audit_log",
    "model",  # the orchestrator's tables; the stages have had a setting of that name for long
    "otlp_endpoint",
    "require_key",
    "stages_ca",
    "stages_cert",
    "stages_key",
    "tls_cert",
    "tls_client_ca",
    "tls_key",
    "trace_ratio",
}
# Settings that the chart makes itself of its values, so `settings` in values may not hold them.
OWNED = {
    "clients_file",
    "denoisers",
    "device",
    "drain_grace_seconds",
    "grpc_addr",
    "http_addr",
    "log_format",
    "log_level",
    "loras",
    "model",
    "text_encoders",
    "textual_inversions",
    "vaes",
} | NOT_YET


class Programs:
    """The services' programs in a folder."""

    def __init__(self, folder, scratch):
        self.folder, self.scratch = folder, scratch
        self.keys = {}

    def run(self, service, arguments, variables):
        # Nothing of this process's own environment, which may hold settings too.
        command = [self.folder / f"darkroom-{service}", *arguments, "--check-config"]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)

    def known(self, service):
        """All settings of a service, from its refusal of one that it does not have."""
        if service not in self.keys:
            file = self.scratch / "unknown.toml"
            file.write_text("surely_unknown = 1\n")
            told = self.run(service, ["--config", file], {}).stderr
            assert "known are: " in told, f"darkroom-{service} does not tell its settings: {told}"
            self.keys[service] = set(told.split("known are: ")[1].strip().split(", "))
        return self.keys[service]

    def check(self, release):
        """The settings of all containers of a release."""
        for deployment in release.deployments:
            [container] = deployment["spec"]["template"]["spec"]["containers"]
            service, where = container["name"], deployment["metadata"]["name"]
            given = {name.removeprefix("DARKROOM_").lower(): value for name, value in environment(container).items()}
            assert len(given) == len(environment(container)), f"{where}: a variable that is no setting"
            file, arguments = {}, []
            if container.get("args"):
                assert container["args"] == ["--config", "/etc/darkroom/config/orchestrator.toml"]
                file = release.config
                text = as_toml({key: value for key, value in file.items() if self.is_known(service, key, where)})
                path = self.scratch / "orchestrator.toml"
                path.write_text(text)
                arguments = ["--config", path]
            variables = {f"DARKROOM_{key.upper()}": value for key, value in given.items() if self.is_known(service, key, where)}
            done = self.run(service, arguments, variables)
            assert done.returncode == 0, f"{where}: {done.stderr}"
            shown = tomllib.loads(done.stdout)
            for key, value in {**file, **given}.items():
                if key in self.known(service) and not isinstance(value, list):
                    assert same(shown.get(key), value), f"{where}: {key} is {shown.get(key)!r}, not {value!r}"

    def is_known(self, service, key, where):
        if key in self.known(service):
            return True
        assert key in NOT_YET, f"{where}: darkroom-{service} has no setting {key}"
        return False

    def check_schema(self, schema):
        """The values' schema lets through exactly the settings that a program has and the chart does not make itself."""
        tables = {"orchestrator": "orchestrator", "text-encoder": "textEncoder", "denoiser": "denoiser", "vae": "vae"}
        for service, table in tables.items():
            listed = set(schema["$defs"][f"{table}Settings"]["propertyNames"]["enum"])
            known = self.known(service)
            assert listed <= known, f"values.schema.json: darkroom-{service} has no settings {sorted(listed - known)}"
            missing = known - listed - OWNED
            assert not missing, f"values.schema.json: {table}Settings lacks {sorted(missing)}, or tests/deploy/settings.py should say that the chart makes them"
        if came := sorted(key for key in NOT_YET - {"model"} if any(key in self.known(service) for service in tables)):
            print(f"these are settings now, so take them out of NOT_YET in tests/deploy/settings.py: {', '.join(came)}")


def as_toml(table):
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not is_tables(value)]
    for key, tables in table.items():
        for one in tables if is_tables(tables) else []:
            lines += [f"[[{key}]]", *(f"{name} = {json.dumps(value)}" for name, value in one.items())]
    return "\n".join(lines) + "\n"


def is_tables(value):
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def same(shown, given):
    """Whether what the program shows is what it was given, as text or as a number."""
    if isinstance(shown, bool) or shown is None:
        return str(shown).lower() == str(given).lower()
    if isinstance(shown, (int, float)):
        return float(shown) == float(given)
    return os.fspath(shown) == str(given)
