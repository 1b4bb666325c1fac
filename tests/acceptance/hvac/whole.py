"""hvac drives a cluster from init to seal, and over TLS: run by tests/acceptance/hvac.rs.

Usage: whole.py whole|tls < {"addresses": [...], "ca_file": null or a path, "token": null or a token}

`whole` takes a cluster without keys from init to seal. `tls` takes an open one with KV v2 at secret/.
Prints a line a check, then "N passed, N failed"; ends with 1 if one has failed. Neighbouring checks ask different nodes.
"""

import itertools
import json
import sys

import hvac
from hvac import exceptions

from checks import Checks, eventually


def whole(addresses, checks):
    nodes = [hvac.Client(url=address, timeout=20) for address in addresses]
    keys = init_and_unseal(nodes, checks)
    for node in nodes:
        node.token = keys["root_token"]
    # Each use is another node.
    around = itertools.cycle(nodes)
    mounts_and_tokens(lambda: next(around), checks)
    secrets(lambda: next(around).secrets.kv.v2, checks)
    metadata(lambda: next(around).secrets.kv.v2, checks)
    raw(lambda: next(around), checks)
    failures(nodes, checks)
    seal(nodes, keys, checks)


def init_and_unseal(nodes, checks):
    first, second, third = nodes
    checks.equal("is_initialized before init", first.sys.is_initialized, False)
    checks.equal("is_sealed before init", second.sys.is_sealed, True)
    checks.equal("health by HEAD before init", lambda: third.sys.read_health_status().status_code, 501)
    checks.equal("health by GET before init", lambda: first.sys.read_health_status(method="GET").json()["initialized"], False)
    checks.raises("init with a threshold above the shares", lambda: second.sys.initialize(2, 3), exceptions.InvalidRequest)
    checks.equal("the first leader is there", lambda: eventually(lambda: bool(first.sys.read_leader_status()["leader_address"]), True), True)
    keys = checks.run("initialize", lambda: first.sys.initialize(secret_shares=5, secret_threshold=3)) or {}
    checks.equal("five shares, in both forms", lambda: (len(keys["keys"]), len(keys["keys_base64"])), (5, 5))
    checks.raises("initialize again", lambda: second.sys.initialize(5, 3), exceptions.InvalidRequest, "already initialized")
    checks.equal("is_initialized", third.sys.is_initialized, True)
    checks.equal("health by HEAD while sealed", lambda: first.sys.read_health_status().status_code, 503)
    checks.equal(
        "read_seal_status",
        lambda: {name: second.sys.read_seal_status()[name] for name in ("type", "sealed", "t", "n", "progress")},
        {"type": "shamir", "sealed": True, "t": 3, "n": 5, "progress": 0},
    )
    checks.raises("a secret while sealed", lambda: third.secrets.kv.v2.read_secret_version("a", raise_on_deleted_version=True), exceptions.VaultDown)
    shares = keys["keys_base64"]
    checks.equal("submit_unseal_key", lambda: first.sys.submit_unseal_key(shares[0])["progress"], 1)
    checks.raises("a share twice", lambda: second.sys.submit_unseal_key(shares[0]), exceptions.InvalidRequest, "entered already")
    checks.raises("a share that is none", lambda: third.sys.submit_unseal_key("AAAA"), exceptions.InvalidRequest)
    checks.raises("a reset takes a share", lambda: second.sys.submit_unseal_key(reset=True), exceptions.InvalidRequest, "a reset needs one of the shares")
    checks.equal("submit_unseal_keys", lambda: third.sys.submit_unseal_keys([shares[4], keys["keys"][1]])["sealed"], False)
    for number, node in enumerate(nodes, 1):
        checks.equal(f"node {number} is open", lambda node=node: eventually(node.sys.is_sealed, False), False)
        checks.equal(f"health of node {number} by HEAD", lambda node=node: eventually(lambda: node.sys.read_health_status().status_code, 200), 200)
    checks.run("health by GET", lambda: health(second))
    checks.equal("every node names one leader", lambda: len({node.sys.read_leader_status()["leader_address"] for node in nodes}), 1)
    checks.equal("one node is the leader", lambda: [node.sys.read_leader_status()["is_self"] for node in nodes].count(True), 1)
    return keys


def health(node):
    status = node.sys.read_health_status(method="GET")  # the body, as the status is 200
    wants = {"initialized": True, "sealed": False, "performance_standby": False}
    assert wants.items() <= status.items(), status
    assert status["cluster_id"] and status["version"] and status["server_time_utc"] > 0, status


def mounts_and_tokens(node, checks):
    checks.equal("is_authenticated", lambda: node().is_authenticated(), True)
    checks.equal("lookup_self", lambda: node().auth.token.lookup_self()["data"]["policies"], ["root"])
    checks.equal("enable_secrets_engine", lambda: node().sys.enable_secrets_engine("kv", path="secret", options={"version": "2"}).status_code, 204)
    checks.raises(
        "enable_secrets_engine where something is",
        lambda: node().sys.enable_secrets_engine("kv", path="secret", options={"version": "2"}),
        exceptions.InvalidRequest,
        "path is already in use at secret/",
    )
    checks.equal("list_mounted_secrets_engines", lambda: node().sys.list_mounted_secrets_engines()["data"]["secret/"]["options"], {"version": "2"})
    checks.equal("it is also at the top level", lambda: node().sys.list_mounted_secrets_engines()["secret/"]["type"], "kv")
    checks.equal("list_auth_methods", lambda: node().sys.list_auth_methods()["data"]["token/"]["type"], "token")


def secrets(kv, checks):
    def read(path, **more):
        return kv().read_secret_version(path, raise_on_deleted_version=True, **more)["data"]

    put = lambda path, secret, **more: kv().create_or_update_secret(path, secret, **more)["data"]["version"]
    checks.equal("create_or_update_secret", lambda: put("app/a", {"x": "1", "n": 2, "deep": {"list": [1, None]}}), 1)
    checks.equal("read_secret_version", lambda: read("app/a")["data"], {"x": "1", "n": 2, "deep": {"list": [1, None]}})
    checks.equal("a second version", lambda: put("app/a", {"x": "2"}), 2)
    checks.equal("read an old version", lambda: read("app/a", version=1)["data"]["n"], 2)
    checks.equal("cas that holds", lambda: put("app/a", {"x": "3"}, cas=2), 3)
    checks.raises("cas that does not hold", lambda: put("app/a", {"x": "4"}, cas=2), exceptions.InvalidRequest, "did not match")
    checks.equal("cas=0 where nothing is", lambda: put("app/b", {"b": "1"}, cas=0), 1)
    checks.raises("cas=0 where something is", lambda: put("app/b", {"b": "2"}, cas=0), exceptions.InvalidRequest)
    checks.equal("patch", lambda: kv().patch("app/a", {"y": "9"})["data"]["version"], 4)
    checks.equal("patch keeps the others", lambda: read("app/a")["data"], {"x": "3", "y": "9"})
    checks.raises("patch of nothing", lambda: kv().patch("none", {"y": "9"}), exceptions.InvalidPath)
    checks.raises("read of nothing", lambda: read("none"), exceptions.InvalidPath)
    checks.equal("list_secrets", lambda: kv().list_secrets("app")["data"]["keys"], ["a", "b"])
    checks.equal("list_secrets of the root", lambda: kv().list_secrets("")["data"]["keys"], ["app/"])
    checks.raises("list_secrets of nothing", lambda: kv().list_secrets("none"), exceptions.InvalidPath)
    checks.equal("a name of many alphabets", lambda: put("app/naïve key/ключ", {"é": "ü"}), 1)
    checks.equal("is read by its name", lambda: read("app/naïve key/ключ")["data"], {"é": "ü"})

    checks.equal("delete_latest_version_of_secret", lambda: kv().delete_latest_version_of_secret("app/a").status_code, 204)
    checks.raises("read of what is deleted", lambda: read("app/a"), exceptions.InvalidPath)
    deleted = lambda: kv().read_secret_version("app/a", raise_on_deleted_version=False)["data"]
    checks.equal("with raise_on_deleted_version=False", lambda: (deleted()["data"], deleted()["metadata"]["version"]), (None, 4))
    checks.equal("undelete_secret_versions", lambda: kv().undelete_secret_versions("app/a", [4]).status_code, 204)
    checks.equal("what came back", lambda: read("app/a")["data"]["x"], "3")
    checks.equal("delete_secret_versions", lambda: kv().delete_secret_versions("app/a", [1, 2]).status_code, 204)
    checks.raises("a deleted old version", lambda: read("app/a", version=2), exceptions.InvalidPath)
    checks.equal("destroy_secret_versions", lambda: kv().destroy_secret_versions("app/a", [1]).status_code, 204)
    versions = lambda: kv().read_secret_metadata("app/a")["data"]["versions"]
    checks.equal("destroyed is destroyed", lambda: (versions()["1"]["destroyed"], versions()["2"]["destroyed"]), (True, False))


def metadata(kv, checks):
    def settings():
        data = kv().read_secret_metadata("app/a")["data"]
        return data["max_versions"], data["delete_version_after"], data["custom_metadata"], data["cas_required"]

    update = lambda: kv().update_metadata("app/a", max_versions=4, cas_required=False, delete_version_after="90m", custom_metadata={"owner": "me"})
    checks.equal("update_metadata", lambda: update().status_code, 204)
    checks.equal("read_secret_metadata", settings, (4, "1h30m0s", {"owner": "me"}, False))
    checks.raises("metadata of nothing", lambda: kv().read_secret_metadata("none"), exceptions.InvalidPath)
    checks.equal("delete_metadata_and_all_versions", lambda: kv().delete_metadata_and_all_versions("app/a").status_code, 204)
    checks.raises("after that nothing is there", lambda: kv().read_secret_metadata("app/a"), exceptions.InvalidPath)
    checks.equal("configure", lambda: kv().configure(max_versions=3, cas_required=True, delete_version_after="0s").status_code, 204)
    configuration = lambda: kv().read_configuration()["data"]
    checks.equal("read_configuration", lambda: (configuration()["max_versions"], configuration()["cas_required"]), (3, True))
    write = lambda: kv().create_or_update_secret("app/b", {"b": "2"})
    checks.raises("a write without cas is refused then", write, exceptions.InvalidRequest, "check-and-set parameter required")
    checks.equal("configure back", lambda: kv().configure(max_versions=10, cas_required=False).status_code, 204)


def raw(node, checks):
    checks.equal("write", lambda: node().write_data("secret/data/raw", data={"data": {"r": 1}})["data"]["version"], 1)
    checks.equal("read", lambda: node().read("secret/data/raw")["data"]["data"], {"r": 1})
    checks.equal("read of nothing is None", lambda: node().read("secret/data/none"), None)
    checks.equal("list", lambda: "raw" in node().list("secret/metadata")["data"]["keys"], True)
    checks.equal("delete", lambda: node().delete("secret/data/raw"), None)
    checks.equal("read of what is deleted is None", lambda: node().read("secret/data/raw"), None)


def failures(nodes, checks):
    first, second, third = nodes
    wrong = hvac.Client(url=first.url, token="hvs.aWrongTokenOfTheLength")
    nobody = hvac.Client(url=second.url)
    nobody.token = None
    read = lambda client: client.secrets.kv.v2.read_secret_version("app/b", raise_on_deleted_version=True)
    checks.equal("is_authenticated with a wrong token", wrong.is_authenticated, False)
    checks.raises("read with a wrong token", lambda: read(wrong), exceptions.Forbidden, "permission denied")
    checks.raises("read without a token", lambda: read(nobody), exceptions.Forbidden, "permission denied")
    checks.raises("seal with a wrong token", wrong.sys.seal, exceptions.Forbidden)
    checks.raises("no such mount", lambda: third.secrets.kv.v2.create_or_update_secret("a", {}, mount_point="nosuch"), exceptions.InvalidPath, "no handler for route")
    checks.raises("data that is no object", lambda: first.write_data("secret/data/a", data={"data": "x"}), exceptions.InvalidRequest)
    checks.raises("a method that no path has", lambda: second.adapter.request("list", "/v1/secret/data/a"), exceptions.UnexpectedError, "unsupported operation")


def seal(nodes, keys, checks):
    first, second, third = nodes
    checks.equal("seal", lambda: second.sys.seal().status_code, 204)
    for number, node in enumerate(nodes, 1):
        checks.equal(f"node {number} is sealed", lambda node=node: eventually(node.sys.is_sealed, True), True)
    read = lambda node: node.secrets.kv.v2.read_secret_version("app/b", raise_on_deleted_version=True)["data"]["data"]
    checks.raises("read once sealed", lambda: read(third), exceptions.VaultDown, "Vault is sealed")
    checks.equal("health by HEAD once sealed", lambda: first.sys.read_health_status().status_code, 503)
    for node, share in zip(nodes, keys["keys"][2:]):
        checks.run("another share", lambda node=node, share=share: node.sys.submit_unseal_key(share))
    checks.equal("open again", lambda: eventually(first.sys.is_sealed, False), False)
    checks.equal("and the secret is there", lambda: read(first), {"b": "1"})


def tls(addresses, ca_file, token, checks):
    nodes = [hvac.Client(url=address, token=token, verify=ca_file) for address in addresses]
    for number, node in enumerate(nodes, 1):
        checks.equal(f"node {number} over TLS", node.is_authenticated, True)
    put = lambda: nodes[0].secrets.kv.v2.create_or_update_secret("hvac/tls", {"x": "1"})["data"]["version"]
    checks.equal("put over TLS", put, 1)
    read = lambda: nodes[1].secrets.kv.v2.read_secret_version("hvac/tls", raise_on_deleted_version=True)["data"]["data"]
    checks.equal("get over TLS", read, {"x": "1"})

    def untrusted():
        try:
            hvac.Client(url=addresses[2]).sys.is_initialized()
        except OSError as error:  # requests' SSLError
            assert "CERTIFICATE_VERIFY_FAILED" in str(error), error
        else:
            raise AssertionError("a certificate of an unknown authority was trusted")

    checks.run("without the authority hvac refuses", untrusted)


def main():
    checks = Checks()
    given = json.load(sys.stdin)
    match sys.argv[1:]:
        case ["whole"]:
            whole(given["addresses"], checks)
            checks.finish(80)
        case ["tls"]:
            tls(given["addresses"], given["ca_file"], given["token"], checks)
            checks.finish(6)
        case _:
            sys.exit(__doc__)


main()
