"""hvac drives one area of the API: run by tests/acceptance/area/mod.rs.

Usage: areas.py AREA < {"addresses": [...], "token": a root token, "folder": a path that the server can write to}

The server is open. Everything is done at mounts, names and namespaces that begin with `hvac`, and taken away again as far as
others would see it. Prints a line a check, then "N passed, N failed"; ends with 1 if one has failed. Neighbouring checks ask
different nodes. All of it holds of OpenBao 2.7.2, too.
"""

import itertools
import json
import sys
import time

import hvac
from hvac import exceptions

from checks import Checks, eventually


class World:
    """The nodes, asked in turn."""

    def __init__(self, given):
        self.addresses = given["addresses"]
        self.token = given["token"]
        self.folder = given["folder"]
        self._turns = itertools.cycle(self.addresses)

    def client(self, token=None, namespace=None):
        """The next node, as root unless another token is given; `""` is none."""
        client = hvac.Client(url=next(self._turns), token=self.token, namespace=namespace, timeout=20)
        client.token = self.token if token is None else (token or None)
        return client

    def new_token(self, **more):
        return self.client().auth.token.create(**({"ttl": "1h", "policies": ["default"]} | more))["auth"]["client_token"]


def kv(world, checks):
    v2 = lambda: world.client().secrets.kv.v2
    at = {"mount_point": "hvac-kv"}
    checks.equal("enable", lambda: world.client().sys.enable_secrets_engine("kv", path="hvac-kv", options={"version": "2"}).status_code, 204)
    put = lambda path, secret, **more: v2().create_or_update_secret(path, secret, **more, **at)["data"]["version"]
    # OpenBao answers 400 for a moment after its mount.
    checks.equal("put", lambda: ready(lambda: put("a", {"x": "1"})), 1)
    read = lambda **more: v2().read_secret_version("a", raise_on_deleted_version=True, **more, **at)["data"]
    checks.equal("put again", lambda: put("a", {"x": "2", "y": {"z": [1, None]}}), 2)
    checks.equal("get", lambda: read()["data"], {"x": "2", "y": {"z": [1, None]}})
    checks.equal("an old version", lambda: read(version=1)["data"], {"x": "1"})
    checks.raises("cas that does not hold", lambda: put("a", {}, cas=1), exceptions.InvalidRequest, "check-and-set")
    checks.equal("patch", lambda: v2().patch("a", {"x": "3"}, **at)["data"]["version"], 3)
    checks.equal("what is patched", lambda: read()["data"], {"x": "3", "y": {"z": [1, None]}})
    checks.equal("subkeys", lambda: world.client().read("hvac-kv/subkeys/a")["data"]["subkeys"], {"x": None, "y": {"z": None}})
    checks.equal("list", lambda: v2().list_secrets("", **at)["data"]["keys"], ["a"])
    checks.equal("delete", lambda: v2().delete_latest_version_of_secret("a", **at).status_code, 204)
    checks.raises("deleted", read, exceptions.InvalidPath)
    checks.equal("undelete", lambda: v2().undelete_secret_versions("a", [3], **at).status_code, 204)
    checks.equal("destroy", lambda: v2().destroy_secret_versions("a", [1], **at).status_code, 204)
    checks.equal("destroyed", lambda: v2().read_secret_metadata("a", **at)["data"]["versions"]["1"]["destroyed"], True)
    checks.equal("metadata", lambda: v2().update_metadata("a", max_versions=2, custom_metadata={"o": "me"}, **at).status_code, 204)
    checks.equal("custom metadata", lambda: v2().read_secret_metadata("a", **at)["data"]["custom_metadata"], {"o": "me"})
    checks.equal("all versions go", lambda: v2().delete_metadata_and_all_versions("a", **at).status_code, 204)
    checks.raises("all are gone", lambda: v2().list_secrets("", **at), exceptions.InvalidPath)


def kv_v1(world, checks):
    v1 = lambda: world.client().secrets.kv.v1
    at = {"mount_point": "hvac-kv1"}
    checks.equal("enable", lambda: world.client().sys.enable_secrets_engine("kv", path="hvac-kv1", options={"version": "1"}).status_code, 204)
    checks.equal("create", lambda: v1().create_or_update_secret("a/b", {"x": "1", "n": 2}, **at).status_code, 204)
    checks.equal("read", lambda: v1().read_secret("a/b", **at)["data"], {"x": "1", "n": 2})
    checks.equal("update replaces", lambda: v1().create_or_update_secret("a/b", {"y": None}, **at).status_code, 204)
    checks.equal("read what replaced", lambda: v1().read_secret("a/b", **at)["data"], {"y": None})
    checks.equal("list", lambda: v1().list_secrets("a", **at)["data"]["keys"], ["b"])
    checks.equal("list of the root", lambda: v1().list_secrets("", **at)["data"]["keys"], ["a/"])
    checks.raises("read of nothing", lambda: v1().read_secret("none", **at), exceptions.InvalidPath)
    checks.raises("list of nothing", lambda: v1().list_secrets("none", **at), exceptions.InvalidPath)
    checks.equal("delete", lambda: v1().delete_secret("a/b", **at).status_code, 204)
    checks.raises("it is gone", lambda: v1().read_secret("a/b", **at), exceptions.InvalidPath)
    checks.equal("delete of nothing", lambda: v1().delete_secret("a/b", **at).status_code, 204)
    checks.equal("disable", lambda: world.client().sys.disable_secrets_engine("hvac-kv1").status_code, 204)


def tokens(world, checks):
    token = lambda client=None: (client or world.client()).auth.token
    made = checks.run("create", lambda: token().create(policies=["default"], ttl="1h", meta={"a": "b"}, display_name="hvac")["auth"]) or {}
    child, accessor = made.get("client_token"), made.get("accessor")
    checks.equal("its policies", lambda: (made["policies"], made["token_policies"], made["orphan"]), (["default"], ["default"], False))
    checks.equal("lookup", lambda: (look := token().lookup(child)["data"]) and (look["id"], look["meta"], look["display_name"]), (child, {"a": "b"}, "token-hvac"))
    checks.equal("lookup_accessor", lambda: token().lookup_accessor(accessor)["data"]["id"], "")
    checks.equal("lookup_self", lambda: token(world.client(child)).lookup_self()["data"]["accessor"], accessor)
    checks.equal("list_accessors", lambda: accessor in token().list_accessors()["data"]["keys"], True)
    checks.equal("renew", lambda: token().renew(child, increment="30m")["auth"]["lease_duration"], 1800)
    checks.equal("renew_self", lambda: token(world.client(child)).renew_self(increment="20m")["auth"]["lease_duration"], 1200)
    checks.equal("renew_accessor", lambda: token().renew_accessor(accessor, increment="40m")["auth"]["lease_duration"], 2400)
    checks.raises("renew of root", lambda: token().renew_self(), exceptions.InvalidRequest)
    checks.equal("revoke_accessor", lambda: token().revoke_accessor(accessor).status_code, 204)
    checks.equal("it is dead", lambda: world.client(child).is_authenticated(), False)
    checks.raises("lookup of the dead", lambda: token().lookup(child), exceptions.Forbidden)
    mortal = checks.run("create another", lambda: world.new_token())
    checks.equal("revoke_self", lambda: token(world.client(mortal)).revoke_self().status_code, 204)
    checks.equal("it is dead too", lambda: world.client(mortal).is_authenticated(), False)
    checks.equal("logout and revoke", lambda: (client := world.client(world.new_token())) and client.logout(revoke_token=True), None)
    checks.equal("create_orphan", lambda: token().create_orphan(policies=["default"], ttl="1h")["auth"]["orphan"], True)
    checks.equal("a period", lambda: token().create(policies=["default"], period="30m")["auth"]["lease_duration"], 1800)
    checks.equal("an explicit end", lambda: token().create(policies=["default"], ttl="3h", explicit_max_ttl="2h")["auth"]["lease_duration"], 7200)
    once = checks.run("one use", lambda: world.new_token(num_uses=1))
    checks.equal("the use", lambda: world.client(once).is_authenticated(), True)
    checks.equal("is spent", lambda: world.client(once).is_authenticated(), False)
    checks.equal("batch", lambda: token().create(policies=["default"], ttl="1h", type="batch")["auth"]["token_type"], "batch")
    checks.equal("a role", lambda: token().create_or_update_role("hvac", allowed_policies=["default"], orphan=True, token_period="10m").status_code, 204)
    checks.equal("read_role", lambda: token().read_role("hvac")["data"]["allowed_policies"], ["default"])
    checks.equal("list_roles", lambda: "hvac" in token().list_roles()["data"]["keys"], True)
    checks.equal("create by it", lambda: token().create(role_name="hvac", policies=["default"])["auth"]["lease_duration"], 600)
    checks.equal("delete_role", lambda: token().delete_role("hvac").status_code, 204)
    checks.raises("the role is gone", lambda: token().read_role("hvac"), exceptions.InvalidPath)
    checks.raises("create by no role", lambda: token().create(role_name="hvac"), exceptions.InvalidRequest, "unknown role")
    checks.equal("tidy", lambda: token().tidy().status_code, 202)


def policies(world, checks):
    sys_ = lambda: world.client().sys
    text = 'path "secret/data/hvac" { capabilities = ["read"] }\n# end\n'
    checks.equal("create_or_update_policy", lambda: sys_().create_or_update_policy("hvac", text).status_code, 204)
    checks.equal("read_policy keeps each byte", lambda: sys_().read_policy("hvac")["data"]["rules"], text)
    checks.equal("it is also at the top level", lambda: sys_().read_policy("hvac")["rules"], text)
    checks.equal("read_acl_policy", lambda: sys_().read_acl_policy("hvac")["data"]["policy"], text)
    checks.equal("list_policies", lambda: {"default", "root", "hvac"} <= set(sys_().list_policies()["data"]["policies"]), True)
    checks.equal("list_acl_policies", lambda: "hvac" in sys_().list_acl_policies()["data"]["keys"], True)
    checks.equal("get_policy", lambda: world.client().get_policy("hvac"), text)
    checks.equal("as a dictionary", lambda: sys_().create_or_update_policy("hvac2", {"path": {"a": {"capabilities": ["read"]}}}).status_code, 204)
    checks.equal("create_or_update_acl_policy", lambda: sys_().create_or_update_acl_policy("hvac2", text).status_code, 204)
    token = checks.run("a token", lambda: world.new_token(policies=["hvac"]))
    checks.equal("get_capabilities", lambda: sys_().get_capabilities(["secret/data/hvac", "x"], token=token)["data"]["secret/data/hvac"], ["read"])
    checks.equal("of oneself", lambda: world.client(token).sys.get_capabilities("secret/data/hvac")["capabilities"], ["read"])
    accessor = checks.run("its accessor", lambda: world.client(token).auth.token.lookup_self()["data"]["accessor"])
    checks.equal("by accessor", lambda: sys_().get_capabilities("x", accessor=accessor)["data"]["x"], ["deny"])
    checks.raises("a policy that is none", lambda: sys_().create_or_update_policy("hvac3", "path {"), exceptions.InvalidRequest)
    checks.raises("what is not allowed", lambda: world.client(token).sys.list_policies(), exceptions.Forbidden, "permission denied")
    checks.equal("delete_policy", lambda: sys_().delete_policy("hvac").status_code, 204)
    checks.equal("delete_acl_policy", lambda: sys_().delete_acl_policy("hvac2").status_code, 204)
    checks.raises("it is gone", lambda: sys_().read_policy("hvac"), exceptions.InvalidPath)
    rules = 'length = 12\nrule "charset" {\n  charset = "ab"\n}\n'
    checks.equal("a password policy", lambda: world.client().write_data("sys/policies/password/hvac", data={"policy": rules}).status_code, 204)
    made = lambda: world.client().read("sys/policies/password/hvac/generate")["data"]["password"]
    checks.equal("a password of it", lambda: (len(password := made()), set(password) <= {"a", "b"}), (12, True))
    checks.equal("delete the password policy", lambda: world.client().delete("sys/policies/password/hvac"), None)


def mounts(world, checks):
    sys_ = lambda: world.client().sys
    enable = lambda path, **more: sys_().enable_secrets_engine("kv", path=path, options={"version": "2"}, **more).status_code
    checks.equal("enable", lambda: enable("hvac-m", description="d", config={"default_lease_ttl": "1h", "max_lease_ttl": "2h"}), 204)
    listed = lambda: sys_().list_mounted_secrets_engines()["data"]
    checks.equal("list", lambda: (listed()["hvac-m/"]["description"], listed()["hvac-m/"]["config"]["max_lease_ttl"]), ("d", 7200))
    fields = {"accessor", "config", "description", "external_entropy_access", "local", "options", "seal_wrap", "type", "uuid"}
    checks.equal("all fields", lambda: fields - set(listed()["hvac-m/"]), set())
    checks.equal("read_mount_configuration", lambda: sys_().read_mount_configuration("hvac-m")["data"]["default_lease_ttl"], 3600)
    checks.equal("tune", lambda: sys_().tune_mount_configuration("hvac-m", default_lease_ttl="30m", description="e").status_code, 204)
    checks.equal("tuned", lambda: sys_().read_mount_configuration("hvac-m")["data"]["default_lease_ttl"], 1800)
    checks.raises("read_mount_configuration of none", lambda: sys_().read_mount_configuration("hvac-none"), exceptions.InvalidRequest)
    checks.raises("enable where something is", lambda: enable("hvac-m"), exceptions.InvalidRequest, "path is already in use at hvac-m/")
    checks.raises("enable of what is unknown", lambda: sys_().enable_secrets_engine("nosuch"), exceptions.InvalidRequest)
    checks.equal("move_backend", lambda: "migration_id" in sys_().move_backend("hvac-m", "hvac-n")["data"], True)
    checks.equal("moved", lambda: eventually(lambda: ("hvac-m/" in listed(), "hvac-n/" in listed()), (False, True)), (False, True))
    checks.raises("move_backend of none", lambda: sys_().move_backend("hvac-none", "hvac-o"), exceptions.InvalidRequest)
    checks.equal("disable", lambda: sys_().disable_secrets_engine("hvac-n").status_code, 204)
    checks.equal("it is not listed", lambda: "hvac-n/" in listed(), False)


def auth(world, checks):
    sys_ = lambda: world.client().sys
    checks.equal("enable userpass", lambda: sys_().enable_auth_method("userpass", path="hvac-up", description="d").status_code, 204)
    checks.equal("enable approle", lambda: sys_().enable_auth_method("approle", path="hvac-ar").status_code, 204)
    listed = lambda: sys_().list_auth_methods()["data"]
    checks.equal("list_auth_methods", lambda: (listed()["hvac-up/"]["type"], listed()["hvac-ar/"]["type"]), ("userpass", "approle"))
    checks.equal("tune_auth_method", lambda: sys_().tune_auth_method("hvac-up", default_lease_ttl="10m", max_lease_ttl="1h").status_code, 204)
    checks.equal("read_auth_method_tuning", lambda: sys_().read_auth_method_tuning("hvac-up")["data"]["default_lease_ttl"], 600)
    up = lambda: world.client("").auth.userpass
    users = lambda: world.client().auth.userpass
    at = {"mount_point": "hvac-up"}
    checks.equal("create_or_update_user", lambda: users().create_or_update_user("bob", password="builder-1", policies=["a", "b"], **at).status_code, 204)
    checks.equal("list_user", lambda: users().list_user(**at)["data"]["keys"], ["bob"])
    checks.equal("read_user", lambda: users().read_user("bob", **at)["data"]["policies"], ["a", "b"])
    login = checks.run("login", lambda: up().login("bob", "builder-1", use_token=False, **at)["auth"]) or {}
    checks.equal("its policies", lambda: (login["policies"], login["metadata"], login["lease_duration"]), (["a", "b", "default"], {"username": "bob"}, 600))
    checks.raises("a wrong password", lambda: up().login("bob", "wrong", **at), exceptions.InvalidRequest, "invalid username or password")
    checks.raises("an unknown user", lambda: up().login("eve", "wrong", **at), exceptions.InvalidRequest, "invalid username or password")
    checks.equal("update_password_on_user", lambda: users().update_password_on_user("bob", "builder-2", **at).status_code, 204)
    checks.raises("the old password", lambda: up().login("bob", "builder-1", **at), exceptions.InvalidRequest)
    used = lambda: (client := world.client("")) and client.auth.userpass.login("bob", "builder-2", **at) and client.is_authenticated()
    checks.equal("login sets the token", used, True)
    checks.equal("delete_user", lambda: users().delete_user("bob", **at).status_code, 204)
    checks.raises("it is gone", lambda: users().read_user("bob", **at), exceptions.InvalidPath)

    role = lambda: world.client().auth.approle
    at = {"mount_point": "hvac-ar"}
    create = lambda: role().create_or_update_approle("app", token_policies=["a"], token_ttl="15m", secret_id_num_uses=2, secret_id_ttl="1h", **at)
    checks.equal("create_or_update_approle", lambda: create().status_code, 204)
    checks.equal("list_roles", lambda: role().list_roles(**at)["data"]["keys"], ["app"])
    checks.equal("read_role", lambda: role().read_role("app", **at)["data"]["secret_id_num_uses"], 2)
    role_id = checks.run("read_role_id", lambda: role().read_role_id("app", **at)["data"]["role_id"])
    secret = checks.run("generate_secret_id", lambda: role().generate_secret_id("app", metadata={"k": "v"}, **at)["data"]) or {}
    log_in = lambda secret_id: world.client("").auth.approle.login(role_id, secret_id, use_token=False, **at)["auth"]
    checks.equal("login by approle", lambda: (auth := log_in(secret["secret_id"])) and (auth["policies"], auth["metadata"]), (["a", "default"], {"k": "v", "role_name": "app"}))
    checks.equal("read_secret_id", lambda: role().read_secret_id("app", secret["secret_id"], **at)["data"]["secret_id_num_uses"], 1)
    by_accessor = lambda: role().read_secret_id_accessor("app", secret["secret_id_accessor"], **at)["data"]["secret_id_accessor"]
    checks.equal("read_secret_id_accessor", by_accessor, secret.get("secret_id_accessor"))
    checks.equal("list_secret_id_accessors", lambda: role().list_secret_id_accessors("app", **at)["data"]["keys"], [secret.get("secret_id_accessor")])
    checks.run("the last use", lambda: log_in(secret["secret_id"]))
    checks.raises("no use is left", lambda: log_in(secret["secret_id"]), exceptions.InvalidRequest)
    checks.equal("create_custom_secret_id", lambda: role().create_custom_secret_id("app", "of-my-own", **at)["data"]["secret_id"], "of-my-own")
    checks.equal("destroy_secret_id", lambda: role().destroy_secret_id("app", "of-my-own", **at).status_code, 204)
    checks.raises("a destroyed secret id", lambda: log_in("of-my-own"), exceptions.InvalidRequest)
    checks.equal("update_role_id", lambda: role().update_role_id("app", "hvac-role", **at).status_code, 204)
    checks.equal("read what was updated", lambda: role().read_role_id("app", **at)["data"]["role_id"], "hvac-role")
    wrapped = lambda: role().generate_secret_id("app", wrap_ttl="5m", **at)["wrap_info"]["token"]
    checks.equal("a wrapped secret id", lambda: sorted(world.client(wrapped()).sys.unwrap()["data"]), ["secret_id", "secret_id_accessor", "secret_id_num_uses", "secret_id_ttl"])
    checks.equal("delete_role", lambda: role().delete_role("app", **at).status_code, 204)
    checks.equal("disable userpass", lambda: sys_().disable_auth_method("hvac-up").status_code, 204)
    checks.equal("disable approle", lambda: sys_().disable_auth_method("hvac-ar").status_code, 204)
    checks.equal("neither is listed", lambda: {"hvac-up/", "hvac-ar/"} & set(listed()), set())


def wrapping(world, checks):
    sys_ = lambda token=None: world.client(token).sys
    wrap = lambda: sys_().wrap({"a": "1"}, ttl=120)["wrap_info"]
    info = checks.run("wrap", wrap) or {}
    checks.equal("its lifetime and path", lambda: (info["ttl"], info["creation_path"]), (120, "sys/wrapping/wrap"))
    look = lambda: world.client("").write_data("sys/wrapping/lookup", data={"token": info["token"]})["data"]
    checks.equal("lookup", lambda: (look()["creation_ttl"], look()["creation_path"]), (120, "sys/wrapping/wrap"))
    checks.equal("unwrap", lambda: sys_().unwrap(info["token"])["data"], {"a": "1"})
    checks.raises("once only", lambda: sys_().unwrap(info["token"]), exceptions.InvalidRequest)
    checks.equal("unwrap as oneself", lambda: sys_(wrap()["token"]).unwrap()["data"], {"a": "1"})
    wrapped = lambda: world.client().auth.token.create(policies=["default"], ttl="1h", wrap_ttl="1m")["wrap_info"]["token"]
    checks.equal("a wrapped token", lambda: sys_(wrapped()).unwrap()["auth"]["policies"], ["default"])
    checks.equal("rewrap", lambda: world.client().write_data("sys/wrapping/rewrap", data={"token": wrap()["token"]})["wrap_info"]["ttl"], 120)
    mine = checks.run("a token", world.new_token)
    checks.equal("write to a cubbyhole", lambda: world.client(mine).write_data("cubbyhole/a", data={"x": "1"}).status_code, 204)
    checks.equal("read it", lambda: world.client(mine).read("cubbyhole/a")["data"], {"x": "1"})
    checks.equal("list it", lambda: world.client(mine).list("cubbyhole")["data"]["keys"], ["a"])
    checks.equal("others see nothing", lambda: world.client().read("cubbyhole/a"), None)


def leases(world, checks):
    sys_ = lambda: world.client().sys
    checks.equal("enable userpass", lambda: sys_().enable_auth_method("userpass", path="hvac-le").status_code, 204)
    user = lambda: world.client().auth.userpass.create_or_update_user("bob", password="builder-1", policies=["a"], mount_point="hvac-le")
    checks.equal("a user", lambda: user().status_code, 204)
    login = lambda: world.client("").auth.userpass.login("bob", "builder-1", use_token=False, mount_point="hvac-le")["auth"]["client_token"]
    token = checks.run("a login", login)
    prefix = "auth/hvac-le/login/bob"
    lease = checks.run("list_leases", lambda: sys_().list_leases(prefix)["data"]["keys"][0])
    checks.equal("read_lease", lambda: sys_().read_lease(f"{prefix}/{lease}")["data"]["id"], f"{prefix}/{lease}")
    checks.raises("read_lease of none", lambda: sys_().read_lease(f"{prefix}/nosuch"), exceptions.InvalidRequest, "invalid lease")
    checks.raises("renew_lease of a token", lambda: sys_().renew_lease(f"{prefix}/{lease}"), exceptions.InvalidRequest, "tokens cannot be renewed through this endpoint")
    checks.equal("revoke_lease", lambda: sys_().revoke_lease(f"{prefix}/{lease}").status_code, 204)
    checks.equal("the token is dead", lambda: eventually(lambda: world.client(token).is_authenticated(), False), False)
    token = checks.run("another login", login)
    checks.equal("revoke_prefix", lambda: sys_().revoke_prefix("auth/hvac-le").status_code, 204)
    checks.equal("it is dead, too", lambda: eventually(lambda: world.client(token).is_authenticated(), False), False)
    checks.raises("no leases are left", lambda: sys_().list_leases(prefix), exceptions.InvalidPath)
    token = checks.run("a third login", login)
    checks.equal("revoke_force", lambda: sys_().revoke_force("auth/hvac-le").status_code, 204)
    checks.equal("also dead", lambda: eventually(lambda: world.client(token).is_authenticated(), False), False)
    checks.equal("disable userpass", lambda: sys_().disable_auth_method("hvac-le").status_code, 204)


def namespaces(world, checks):
    sys_ = lambda namespace=None: world.client(namespace=namespace).sys
    checks.equal("create_namespace", lambda: sys_().create_namespace("hvac-a")["data"]["path"], "hvac-a/")
    checks.equal("create another", lambda: sys_().create_namespace("hvac-b")["data"]["path"], "hvac-b/")
    checks.equal("list_namespaces", lambda: {"hvac-a/", "hvac-b/"} <= set(sys_().list_namespaces()["data"]["keys"]), True)
    for name in ("hvac-a", "hvac-b"):
        enable = lambda name=name: sys_(name).enable_secrets_engine("kv", path="kv", options={"version": "1"}).status_code
        checks.equal(f"an engine in {name}", enable, 204)
        write = lambda name=name: world.client(namespace=name).secrets.kv.v1.create_or_update_secret("a", {"in": name}, mount_point="kv")
        checks.equal(f"a secret in {name}", lambda write=write: write().status_code, 204)
    read = lambda name, token=None: world.client(token, name).secrets.kv.v1.read_secret("a", mount_point="kv")["data"]["in"]
    checks.equal("each has its own", lambda: (read("hvac-a"), read("hvac-b")), ("hvac-a", "hvac-b"))
    checks.equal("by path", lambda: world.client().read("hvac-a/kv/a")["data"], {"in": "hvac-a"})
    checks.equal("a policy", lambda: sys_("hvac-a").create_or_update_policy("reader", 'path "kv/*" { capabilities = ["read"] }').status_code, 204)
    token = checks.run("a token", lambda: world.client(namespace="hvac-a").auth.token.create(policies=["reader"], ttl="1h")["auth"]["client_token"])
    checks.equal("reads at home", lambda: read("hvac-a", token), "hvac-a")
    checks.raises("not next door", lambda: read("hvac-b", token), exceptions.Forbidden)
    checks.raises("nor in root", lambda: world.client(token).read("secret/metadata/a"), exceptions.Forbidden)
    checks.run("delete_namespace", lambda: sys_().delete_namespace("hvac-b"))
    gone = lambda: "hvac-b/" in sys_().list_namespaces()["data"]["keys"]
    checks.equal("it is gone", lambda: eventually(gone, False), False)
    checks.equal("the other is not", lambda: read("hvac-a", token), "hvac-a")


def audit(world, checks):
    sys_ = lambda: world.client().sys
    enable = lambda: sys_().enable_audit_device("file", path="hvac", description="d", options={"file_path": f"{world.folder}/hvac.log"})
    checks.equal("enable_audit_device", lambda: enable().status_code, 204)
    listed = lambda: sys_().list_enabled_audit_devices()["data"]
    checks.equal("list_enabled_audit_devices", lambda: (listed()["hvac/"]["type"], listed()["hvac/"]["description"]), ("file", "d"))
    checks.raises("enable again", enable, exceptions.InvalidRequest)
    hashed = lambda: sys_().calculate_hash("hvac", "hello")["data"]["hash"]
    checks.equal("calculate_hash", lambda: hashed().startswith("hmac-sha256:") and hashed() == hashed(), True)

    def recorded():
        world.client().secrets.kv.v2.create_or_update_secret("hvac-audited", {"x": "hvac-canary"})
        with open(f"{world.folder}/hvac.log") as file:
            text = file.read()
        records = [json.loads(line) for line in text.splitlines()]
        assert "hvac-canary" not in text, "a value is in the audit file"
        kinds = {record["type"] for record in records if record["request"]["path"] == "secret/data/hvac-audited"}
        assert kinds == {"request", "response"}, kinds
        assert all(record["request"].get("client_token", "hmac-sha256:").startswith("hmac-sha256:") for record in records)

    checks.run("what is recorded", recorded)
    checks.equal("disable_audit_device", lambda: sys_().disable_audit_device("hvac").status_code, 204)
    checks.equal("it is not listed", lambda: "hvac/" in listed(), False)


def sys_area(world, checks):
    sys_ = lambda token=None: world.client(token).sys
    checks.equal("is_initialized", lambda: sys_("").is_initialized(), True)
    checks.equal("is_sealed", lambda: sys_("").is_sealed(), False)
    checks.equal("health", lambda: sys_("").read_health_status(method="GET")["sealed"], False)
    checks.equal("health by HEAD", lambda: sys_("").read_health_status().status_code, 200)
    # A code other than 200 comes as the response itself.
    codes = lambda: sys_("").read_health_status(method="GET", active_code=299, standby_code=299).status_code
    checks.equal("health with another code", codes, 299)
    checks.equal("leader", lambda: "ha_enabled" in sys_("").read_leader_status(), True)
    checks.equal("seal status", lambda: sys_("").read_seal_status()["type"], "shamir")
    checks.equal("key status", lambda: sys_().get_encryption_key_status()["data"]["term"] >= 1, True)
    checks.equal("random", lambda: len(world.client().write_data("sys/tools/random/16", data={"format": "hex"})["data"]["random_bytes"]), 32)
    checks.equal("read of no path", lambda: world.client().read("sys/nosuch"), None)
    checks.raises("write to no path", lambda: world.client().write_data("sys/nosuch", data={"a": "b"}), exceptions.InvalidPath, "unsupported path")


def keys(world, checks):
    """Without shares: hvac's own tests enter them."""
    sys_ = lambda token=None: world.client(token).sys
    term = lambda: sys_().get_encryption_key_status()["data"]["term"]
    before = checks.run("key status", term) or 0
    checks.equal("rotate_encryption_key", lambda: sys_().rotate_encryption_key().status_code, 204)
    checks.equal("the next term", term, before + 1)
    checks.equal("no root generation", lambda: sys_().read_root_generation_progress()["started"], False)
    started = checks.run("start_root_token_generation", lambda: sys_().start_root_token_generation()) or {}
    checks.equal("a password of the token's length", lambda: len(started["otp"]), started.get("otp_length"))
    progress = lambda: {name: sys_().read_root_generation_progress()[name] for name in ("nonce", "started", "progress", "complete")}
    wants = {"nonce": started.get("nonce"), "started": True, "progress": 0, "complete": False}
    checks.equal("its progress", progress, wants)
    checks.raises("a share that is none", lambda: sys_("").generate_root("AAAA", started["nonce"]), exceptions.InvalidRequest)
    checks.equal("cancel_root_generation", lambda: sys_().cancel_root_generation().status_code, 204)
    checks.equal("no rekey", lambda: sys_().read_rekey_progress()["started"], False)
    rekey = checks.run("start_rekey", lambda: sys_().start_rekey(secret_shares=3, secret_threshold=2, require_verification=True)) or {}
    checks.equal("what was started", lambda: {name: rekey[name] for name in ("started", "n", "t")}, {"started": True, "n": 3, "t": 2})
    checks.raises("rekey with a share that is none", lambda: sys_("").rekey("AAAA", rekey["nonce"]), exceptions.InvalidRequest)
    checks.equal("cancel_rekey", lambda: sys_().cancel_rekey().status_code, 204)
    checks.raises("no backup", lambda: sys_().read_backup_keys(), exceptions.InvalidRequest, "no backed-up keys found")


AREAS = {
    "kv": (kv, 18),
    "kv_v1": (kv_v1, 13),
    "tokens": (tokens, 30),
    "policies": (policies, 21),
    "mounts": (mounts, 14),
    "auth": (auth, 38),
    "wrapping": (wrapping, 12),
    "leases": (leases, 16),
    "namespaces": (namespaces, 16),
    "audit": (audit, 7),
    "sys": (sys_area, 10),
    "keys": (keys, 13),
    "path_help": (lambda world, checks: None, 0),
}


def ready(ask):
    """OpenBao answers 400 for a moment after a KV v2 mount."""
    for _ in range(100):
        try:
            return ask()
        except exceptions.InvalidRequest as error:
            if "Upgrading from non-versioned" not in str(error):
                raise
            time.sleep(0.05)
    return ask()


def main():
    [name] = sys.argv[1:]
    check, least = AREAS[name]
    checks = Checks()
    check(World(json.load(sys.stdin)), checks)
    checks.finish(least)


if __name__ == "__main__":
    main()
