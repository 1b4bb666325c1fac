"""Validates a server's OpenAPI document, and lets schemathesis look for answers of 5xx: run by tests/acceptance/openapi.rs.

Usage: check.py < {"addresses": [...], "token": a root token, "folder": where files may be made}

Prints a line a check, then "N passed, N failed"; ends with 1 if one has failed. Takes less than RUN_SECONDS_MAX + 30 seconds.
"""

import json
import pathlib
import subprocess
import sys
import urllib.request

RUN_SECONDS_MAX = 40
OPERATIONS_MIN = 100  # fewer: the document is not whole
SEED = 20260702

# What would end the run rather than try the server: these have tests of their own.
LEFT_OUT = (
    r"^/sys/(seal|unseal|init|step-down|rekey|rotate|generate-root|storage|audit|remount|pprof|monitor)(/|$)"
    r"|^/auth/token/revoke|^/sys/leases/revoke-(prefix|force)"
)


def main():
    given = json.load(sys.stdin)
    address, folder = given["addresses"][0], pathlib.Path(given["folder"])
    failed = []

    def check(name, mistake):
        print(f"FAILED  {name}: {mistake}" if mistake else f"ok      {name}", flush=True)
        if mistake:
            failed.append(name)

    document = folder / "openapi.json"
    request = urllib.request.Request(f"{address}/v1/sys/internal/specs/openapi", headers={"X-Vault-Token": given["token"]})
    with urllib.request.urlopen(request, timeout=20) as answer:
        document.write_bytes(answer.read())
    spec = json.loads(document.read_bytes())
    operations = sum(len(set(path) & {"get", "post", "put", "patch", "delete"}) for path in spec["paths"].values())
    check("the document is whole", "" if operations >= OPERATIONS_MIN else f"it has {operations} operations")
    check("the document is valid", invalid(spec))
    check("no answer is 5xx", fuzz(address, given["token"], document, folder))
    for address in given["addresses"]:
        with urllib.request.urlopen(f"{address}/v1/sys/health?standbyok=true", timeout=20) as answer:
            check(f"{address} is alive and open", "" if answer.status == 200 else answer.status)
    total = 3 + len(given["addresses"])
    print(f"{total - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def invalid(spec):
    from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

    validator = OpenAPIV31SpecValidator if spec["openapi"].startswith("3.1") else OpenAPIV30SpecValidator
    mistakes = [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator(spec).iter_errors()]
    return "\n  ".join(mistakes[:20])


def fuzz(address, token, document, folder):
    # In a file: arguments can be seen by others.
    settings = folder / "schemathesis.toml"
    settings.write_text(f'headers = {{ "X-Vault-Token" = "{token}", "X-Vault-Request" = "true" }}\n')
    settings.chmod(0o600)
    command = [pathlib.Path(sys.executable).parent / "schemathesis", f"--config-file={settings}", "run", document]
    command += [f"--url={address}/v1", "--checks=not_a_server_error", "--phases=examples,coverage,fuzzing", "--mode=all"]
    command += [f"--max-time={RUN_SECONDS_MAX}", "--workers=2", f"--seed={SEED}", "--no-shrink", "--continue-on-failure", "--warnings=off"]
    command += [f"--exclude-path-regex={LEFT_OUT}", "--request-timeout=10"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_SECONDS_MAX + 60)
    text = found.stdout + found.stderr
    (folder / "schemathesis.log").write_text(text)
    return "" if found.returncode == 0 else f"schemathesis ended with {found.returncode}\n{text[-6000:]}"


if __name__ == "__main__":
    sys.exit(main())
