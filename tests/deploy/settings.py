"""Every setting that a manifest gives a service, taken by that service's own program: its `--check-config` reads them and shows what it makes of them."""

import json
import os
import subprocess
import tomllib

from meaning import environment

# Settings that the chart makes itself of its values, so `settings` in values may not hold them.
OWNED = {
    "audit_log",
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
    "otlp_endpoint",
    "require_key",
    "stages_ca",
    "stages_cert",
    "stages_key",
    "text_encoders",
    "textual_inversions",
    "tls_cert",
    "tls_client_ca",
    "tls_key",
    "trace_ratio",
    "vaes",
}


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
                text = as_toml(file)
                path = self.scratch / "orchestrator.toml"
                path.write_text(text)
                arguments = ["--config", path]
            unknown = {*file, *given} - self.known(service)
            assert not unknown, f"{where}: darkroom-{service} has no settings {sorted(unknown)}"
            variables = {f"DARKROOM_{key.upper()}": value for key, value in given.items()}
            done = self.run(service, arguments, variables)
            assert done.returncode == 0, f"{where}: {done.stderr}"
            shown = tomllib.loads(done.stdout)
            for key, value in {**file, **given}.items():
                if not isinstance(value, list):
                    assert same(shown.get(key), value), f"{where}: {key} is {shown.get(key)!r}, not {value!r}"

    def check_schema(self, schema):
        """The values' schema lets through exactly the settings that a program has and the chart does not make itself."""
        tables = {"orchestrator": "orchestrator", "text-encoder": "textEncoder", "denoiser": "denoiser", "vae": "vae"}
        for service, table in tables.items():
            listed = set(schema["$defs"][f"{table}Settings"]["propertyNames"]["enum"])
            known = self.known(service)
            assert listed <= known, f"values.schema.json: darkroom-{service} has no settings {sorted(listed - known)}"
            missing = known - listed - OWNED
            assert not missing, f"values.schema.json: {table}Settings lacks {sorted(missing)}, or tests/deploy/settings.py should say that the chart makes them"


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
