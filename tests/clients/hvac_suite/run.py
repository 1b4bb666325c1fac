#!/usr/bin/env python3
"""Runs hvac's own integration tests, from its sdist on PyPI, against `conclave` or `bao`.

    run.py --server PATH/conclave --landed            the areas that have landed: what CI runs
    run.py --server PATH/conclave --areas token kv_v2 these areas
    run.py --server PATH/conclave --all               all areas, and their counts
    run.py --server PATH/bao --all --record           writes openbao-2.7.2.txt anew: what OpenBao passes

Always: a test that OpenBao passes must pass; one that OpenBao fails may do as it likes; a test that OpenBao passes and that is not
run at all is a failure too. Those that are allowed to fail are in ALLOWED, with the reason, and it is an error if one of them passes.

The tests start an executable called `vault`; the file of that name beside this one stands in for it. Everything that is fetched or
made (sdist, virtual environment, certificates, traces of the servers, answers) is in --folder.
"""

import argparse
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import xml.etree.ElementTree as xml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
HVAC = "hvac-2.4.0"
EXPECTED = HERE / "openbao-2.7.2.txt"
TEST_SECONDS_MAX = 60  # for one test; the slowest takes 12 at OpenBao
RUN_SECONDS_MAX = 1500

# An area is a file of tests, or several: names of what they try. `landed` areas are run by CI.
AREAS = {
    # area: (landed, files below tests/integration_tests)
    "health": (True, ["api/system_backend/test_health.py"]),
    "init": (True, ["api/system_backend/test_init.py"]),
    "seal": (True, ["api/system_backend/test_seal.py"]),
    "leader": (True, ["api/system_backend/test_leader.py"]),
    "kv_v1": (True, ["api/secrets_engines/test_kv_v1.py"]),
    "kv_v2": (True, ["api/secrets_engines/test_kv_v2.py"]),
    "token": (True, ["api/auth_methods/test_token.py"]),
    "approle": (True, ["api/auth_methods/test_approle.py", "v1/test_approle.py"]),
    "policy": (True, ["api/system_backend/test_policy.py"]),
    "policies": (True, ["api/system_backend/test_policies.py"]),
    "mount": (True, ["api/system_backend/test_mount.py"]),
    "auth_method": (True, ["api/system_backend/test_auth.py"]),
    "audit": (True, ["api/system_backend/test_audit.py"]),
    "wrapping": (True, ["api/system_backend/test_wrapping.py"]),
    "lease": (True, ["api/system_backend/test_lease.py"]),
    "namespace": (True, ["api/system_backend/test_namespace.py"]),
    "v1": (False, ["v1/test_integration.py"]),
    "v1_system": (True, ["v1/test_system_backend.py"]),
    # Of later issues.
    "key": (True, ["api/system_backend/test_key.py"]),
    "raft": (False, ["api/system_backend/test_raft.py"]),
    "quota": (False, ["api/system_backend/test_quota.py"]),
    "identity": (False, ["api/secrets_engines/test_identity.py"]),
    "transit": (False, ["api/secrets_engines/test_transit.py"]),
    "pki": (False, ["api/secrets_engines/test_pki.py"]),
    "ssh": (False, ["api/secrets_engines/test_ssh.py"]),
    "cert": (False, ["api/auth_methods/test_cert.py"]),
    "kubernetes": (False, ["api/auth_methods/test_kubernetes.py"]),
    "jwt": (False, ["api/auth_methods/test_jwt.py", "api/auth_methods/test_oidc.py"]),
    "ldap": (False, ["api/auth_methods/test_ldap.py"]),
}

# Of an area that may have landed: tests that OpenBao passes and Conclave does not, and why.
ALLOWED = {
    "lease TestLease::test_list_leases": "needs the pki engine",
    "lease TestLease::test_read_lease": "needs the pki engine",
    "lease TestLease::test_revoke_force": "needs the pki engine",
    "lease TestLease::test_revoke_lease": "needs the pki engine",
    "lease TestLease::test_revoke_prefix": "needs the pki engine",
    "seal TestSeal::test_unseal_multi": "a reset takes a share (docs/compatibility.md)",
    "v1 IntegrationTest::test_write_with_response": "needs the transit engine",
    "v1_system TestSystemBackend::test_read_lease": "needs the pki engine",
    "v1_system TestSystemBackend::test_unseal_multi": "a reset takes a share (docs/compatibility.md)",
}

# Of those: tests that would leave the server sealed for all that come after them. Not run at Conclave.
SPOILS_THE_REST = (
    "api/system_backend/test_seal.py::TestSeal::test_unseal_multi",
    "v1/test_system_backend.py::TestSystemBackend::test_unseal_multi",
)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--server", required=True, type=pathlib.Path, help="the executable that serves: conclave or bao")
    which = arguments.add_mutually_exclusive_group(required=True)
    which.add_argument("--landed", action="store_true")
    which.add_argument("--all", action="store_true")
    which.add_argument("--areas", nargs="+", choices=AREAS, metavar="AREA")
    arguments.add_argument("--record", action="store_true", help="with --server bao --all: write down what passes")
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "target" / "hvac-suite")
    arguments.add_argument("--workers", type=int, default=2)
    given = arguments.parse_args()
    if given.record and not (given.all and given.server.name == "bao"):
        arguments.error("--record writes what OpenBao passes: give --server PATH/bao --all with it")
    server = given.server.resolve()
    if not os.access(server, os.X_OK):
        arguments.error(f"{server} is no executable")
    areas = given.areas or [area for area, (landed, _) in AREAS.items() if given.all or landed]
    if not areas:
        print("no area has landed")
        return 0

    folder = given.folder.resolve()
    python = prepare(folder)
    found = run(folder, python, server, areas, given.workers)
    if given.record:
        record(found)
        return 0
    return judge(found, areas, server.name)


def prepare(folder):
    """Fetches and makes what the tests need; returns the Python that runs them."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    done = folder / "venv" / "requirements.txt"
    wanted = (HERE / "requirements.txt").read_bytes()
    if not done.is_file() or done.read_bytes() != wanted:
        venv.create(folder / "venv", with_pip=True, clear=True)
        pip(python, "install", "--quiet", "--requirement", HERE / "requirements.txt")
        done.write_bytes(wanted)
    archive = folder / f"{HVAC}.tar.gz"
    if not archive.is_file():
        # pip would run the sdist's build to learn its name; it needs poetry-core for that, which pip fetches by itself.
        pip(python, "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder, HVAC.replace("-", "=="))
    # Anew each time: the tests write into their own folder.
    shutil.rmtree(folder / HVAC, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    certificates(folder / HVAC / "tests" / "config_files")
    return python


def pip(python, *arguments):
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    for _ in range(2):
        if subprocess.run(command).returncode == 0:
            return
    subprocess.run(command, check=True)


def certificates(folder):
    """Fresh certificates by the sdist's own settings: its client's ended on 2026-11-18."""
    (folder / "generated").mkdir(exist_ok=True)
    for name in ("server", "client"):
        # Gone first: a key that everyone can read is refused by a careful server.
        (folder / f"{name}-key.pem").unlink()
        command = ["openssl", "req", "-x509", "-nodes", "-days", "30", "-newkey", "rsa:2048", "-config", folder / f"{name}.cnf"]
        command += ["-keyout", folder / f"{name}-key.pem", "-out", folder / f"{name}-cert.pem"]
        subprocess.run(command, check=True, capture_output=True)


def run(folder, python, server, areas, workers):
    """Runs the files of `areas`; returns {area: {test: (outcome, why)}}."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    shutil.copy(HERE / "vault", bin_folder / "vault")
    traces = folder / "traces"
    shutil.rmtree(traces, ignore_errors=True)
    traces.mkdir()
    sources = folder / HVAC
    answers = folder / "answers.xml"
    answers.unlink(missing_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_", "CONCLAVE_"))}
    environment = kept | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(sources),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder),
        "HVAC_SUITE_SERVER": str(server),
        "HVAC_SUITE_TRACES": str(traces),
    }
    command = [python, "-m", "pytest", "-q", "--override-ini=addopts=", f"-n{workers}", "--dist=loadscope", "-p", "no:cacheprovider"]
    command += [f"--rootdir={sources}", f"--timeout={TEST_SECONDS_MAX}", f"--junit-xml={answers}", "--tb=line", "-W", "ignore"]
    command += [sources / "tests" / "integration_tests" / file for area in areas for file in AREAS[area][1]]
    if server.name != "bao":
        command += [f"--deselect=tests/integration_tests/{test}" for test in SPOILS_THE_REST]
    with open(folder / "pytest.log", "wb") as log:
        # The paths in their configuration begin at `sources`.
        status = subprocess.run(command, cwd=sources, env=environment, stdout=log, stderr=log, timeout=RUN_SECONDS_MAX).returncode
    # 0: all passed, 1: some failed. Anything else is a run that did not happen.
    if status not in (0, 1) or not answers.is_file():
        print((folder / "pytest.log").read_text(errors="replace"))
        sys.exit(f"pytest ended with {status}")
    return collect(answers, areas)


def collect(answers, areas):
    area_of = {f"tests.integration_tests.{file[:-3].replace('/', '.')}": area for area in areas for file in AREAS[area][1]}
    found = {area: {} for area in areas}
    for case in xml.parse(answers).iter("testcase"):
        module, _, rest = case.get("classname").rpartition(".")
        outcome, why = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome, why = ("skipped" if child.tag == "skipped" else "failed"), child.get("message", "")
        # A whole file that cannot be read is a case without a class.
        area = area_of.get(module) or area_of[f"{module}.{rest}"]
        name = f"{rest}::{stable(case.get('name'))}"
        if found[area].get(name, ("",))[0] != "failed":
            found[area][name] = (outcome, why)
    return found


def stable(name):
    """Names that parameterized makes of values may hold ports and addresses of this run."""
    return re.sub(r"\d{4,}", "N", re.sub(r"[^\x21-\x7e]", "_", name))


def record(found):
    lines = ["# What OpenBao 2.7.2 makes of hvac 2.4.0's own integration tests. Written by run.py --record; do not edit."]
    for area, tests in found.items():
        lines += [f"{area} {outcome} {name}" for name, (outcome, _) in sorted(tests.items())]
    EXPECTED.write_text("\n".join(lines) + "\n")
    print(counts(found))
    print(f"written: {EXPECTED}")


def expected(areas):
    passes = {area: set() for area in areas}
    for line in EXPECTED.read_text().splitlines():
        if not line.startswith("#"):
            area, outcome, name = line.split(" ", 2)
            if outcome == "passed" and area in passes:
                passes[area].add(name)
    return passes


def judge(found, areas, server):
    wrong, allowed_seen = [], set()
    for area, names in expected(areas).items():
        for name in sorted(names):
            outcome, why = found[area].get(name, ("not run", ""))
            key = f"{area} {name}"
            if outcome == "passed":
                if key in ALLOWED and server != "bao":
                    wrong.append(f"{key}: passes, and is listed as allowed to fail ({ALLOWED[key]})")
            elif key in ALLOWED and server != "bao":
                allowed_seen.add(key)
            else:
                wrong.append(f"{key}: {outcome}: {why[:400]}")
    beyond = sum(1 for area, tests in found.items() for name, (outcome, _) in tests.items() if outcome == "passed" and name not in expected([area])[area])
    print(counts(found))
    print(f"{beyond} that OpenBao does not pass; {len(allowed_seen)} allowed to fail")
    for line in wrong:
        print(f"FAILED  {line}")
    total = sum(len(names) for names in expected(areas).values())
    print(f"of what OpenBao passes: {total - len(wrong) - len(allowed_seen)} passed, {len(wrong)} failed")
    if wrong:
        print("pytest's own words are in pytest.log of --folder, the servers' in traces/")
    return 1 if wrong else 0


def counts(found):
    lines = [f"{'area':<14}{'passed':>8}{'failed':>8}{'skipped':>8}"]
    sums = collections.Counter()
    for area, tests in found.items():
        count = collections.Counter(outcome for outcome, _ in tests.values())
        sums += count
        lines.append(f"{area:<14}{count['passed']:>8}{count['failed']:>8}{count['skipped']:>8}")
    lines.append(f"{'all':<14}{sums['passed']:>8}{sums['failed']:>8}{sums['skipped']:>8}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
