"""Asks a running OpenBao what it makes of policies, and prints the table that openbao.rs compares ours with.

    bao server -dev -dev-root-token-id=root &
    python3 openbao.py http://127.0.0.1:8200 > openbao.json

Uses a fresh KV v1 mount, kv/, and one in a namespace, n/kv/. A request counts as allowed unless the answer is 403.
"""

import json
import random
import sys
import urllib.error
import urllib.parse
import urllib.request

ADDRESS = sys.argv[1] + "/v1/"
SEED, SETS, QUESTIONS = 11, 150, 12


def call(method, path, body=None, token="root", headers=None, namespace="", query=None):
    url = ADDRESS + urllib.parse.quote(path) + ("?" + urllib.parse.urlencode(query) if query else "")
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"X-Vault-Token": token, "X-Vault-Namespace": namespace, "Content-Type": kind, **(headers or {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def must(answer):
    assert answer[0] < 300, answer
    return answer[1]


def ask(token, question, namespace):
    verb, path, data = question["verb"], question["path"], question.get("data")
    headers = {"X-Vault-Wrap-TTL": str(question["wrap"])} if question.get("wrap") else {}
    if verb == "write":
        root = {"namespace": namespace}
        if question["create"]:
            call("DELETE", path, **root)
        else:
            must(call("POST", path, {"v": "1"}, **root))
    method = {"read": "GET", "write": "POST", "patch": "PATCH", "delete": "DELETE", "list": "LIST", "scan": "SCAN"}[verb]
    in_query = verb in ("read", "list", "scan", "delete")
    status, _ = call(
        method,
        path,
        None if in_query else data or {},
        token,
        headers,
        namespace,
        data if in_query else None,
    )
    return status != 403


def record(texts, paths, questions, namespace=""):
    names = []
    for number, text in enumerate(texts):
        name = f"p{number}"
        must(call("PUT", f"sys/policies/acl/{name}", {"policy": text}, namespace=namespace))
        names.append(name)
    made = call("POST", "auth/token/create", {"policies": names, "no_default_policy": True}, namespace=namespace)
    token = must(made)["auth"]["client_token"]
    answers = must(call("POST", "sys/capabilities", {"token": token, "paths": paths}, namespace=namespace))["data"] if paths else {}
    return {
        "namespace": namespace,
        "policies": texts,
        "capabilities": {path: answers[path] for path in paths},
        "requests": [{**question, "allowed": ask(token, question, namespace)} for question in questions],
    }


def hcl(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {hcl(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(hcl, value)) + "]" if isinstance(value, list) else json.dumps(value)


def rule(path, *capabilities, **more):
    lines = "".join(f" {key} = {hcl(value)}\n" for key, value in {"capabilities": list(capabilities), **more}.items())
    return f"path {json.dumps(path, ensure_ascii=False)} {{\n{lines}}}\n"


def by_hand():
    """Each rule of precedence and merging, by itself."""
    pairs = [
        # (rules, path): the rule with `update` should win where Vault's documents say so.
        (["+/*", "*"], "kv/a/b"),
        (["+/*", "kv/+/*"], "kv/a/b"),
        (["kv/+/+/*", "kv/+/a/b"], "kv/a/a/b"),
        (["kv/+/+/b", "kv/+/a/b"], "kv/a/a/b"),
        (["kv/+/(a/b", "kv/(a/+/b"], "kv/(a/(a/b"),
        (["kv/a/+/b*", "kv/a/+/b"], "kv/a/a/b"),
        (["kv/a/+/b*", "kv/a/+/ba*"], "kv/a/a/bab"),
        (["kv/*", "kv/+/+/a/*"], "kv/a/b/a/c"),
        (["kv/*", "kv/a"], "kv/a"),
        (["kv/a", "kv/a/"], "kv/a/"),
        (["kv/a", "kv/a/"], "kv/a"),
        (["kv/a*", "kv/a/*"], "kv/a/"),
        (["kv/a", "kv/a/*"], "kv/a/"),
        (["kv/+", "kv/a*"], "kv/a"),
        (["kv/+", "kv/a*"], "kv/a/"),
        (["kv/a+b/+", "kv/a+b/*"], "kv/a+b/c"),
        (["kv/+b", "kv/*"], "kv/+b"),
        (["kv/+", "kv/+/"], "kv/a/"),
        (["kv/+/+", "kv/+"], "kv/a/"),
        (["+", "kv"], "kv"),
        (["+", "kv"], "kv/"),
        (["*", "kv*"], "kv"),
        (["", "*"], "kv/a"),
        (["kv/é*", "kv/é/*"], "kv/é/a"),
    ]
    for (first, second), path in pairs:
        both = rule(first, "read", "list") + rule(second, "update", "list")
        yield record([both], [path, path.rstrip("/"), path.rstrip("/") + "/"], [{"verb": "list", "path": path.rstrip("/")}])
    everything = ["create", "read", "update", "patch", "delete", "list", "scan", "sudo"]
    texts = [
        [rule("kv/a", *everything)],
        [rule("kv/a")],
        [rule("kv/a", "read"), rule("kv/a", "deny")],
        [rule("kv/a", "deny"), rule("kv/a", "read")],
        [rule("kv/a", "read"), rule("kv/a", "update")],
        [rule("kv/*", "read") + rule("kv/a", "deny")],
        [rule("kv/*", "deny") + rule("kv/a", "read")],
        [rule("kv/a", "deny", "read", "sudo")],
        ['path "kv/a" { policy = "read" }', 'path "kv/b" { policy = "write" }'],
        ['path "kv/a" { policy = "sudo" }', 'path "kv/b" { policy = "deny" capabilities = ["read"] }'],
        ['{"path": {"kv/a": {"capabilities": ["read"]}, "kv/b": {"policy": "write"}}}'],
        ['{"path": [{"kv/a": {"capabilities": ["read"]}}, {"kv/a": {"capabilities": ["list"]}}]}'],
        ['path "/kv/a" { capabilities = ["read"] } path "//kv/b" { capabilities = ["read"] }'],
        ['path "kv/${a}" { capabilities = ["read"] } path "kv/{{identity.entity.id}}" { capabilities = ["read"] }'],
        ['path "kv/a" { capabilities = ["read"] expiration = "2020-01-01T00:00:00Z" } path "kv/b" { capabilities = ["read"] expiration = 4102444800 }'],
        ["# nothing"],
    ]
    for each in texts:
        yield record(each, ["kv/a", "kv/a/", "kv/b", "kv/${a}", "kv/{{identity.entity.id}}", "x"], [])
    for capabilities in (["list"], ["list", "sudo"], ["sudo"]):
        lookup = {"verb": "list", "path": "sys/leases/lookup/x", "sudo": True}
        yield record([rule("sys/leases/lookup/*", *capabilities)], ["sys/leases/lookup/x"], [lookup])
    for text in [rule("+/a", "read"), rule("+", "list"), rule("*", "read"), rule("kv/+", "read"), rule("/kv/a", "read")]:
        yield record([text], ["kv/a", "kv/", "kv", "a"], [{"verb": "read", "path": "kv/a"}], "n/")
    for given in [{}, {"x": "a"}, {"X": "a"}, {"x": "b"}, {"x": "ab"}, {"y": "a"}, {"x": None}, {"x": ["a"]}, {"x": {"a": "b"}}, {"x": True}, {"*": "a"}]:
        for more in [
            {"allowed_parameters": {"x": []}},
            {"allowed_parameters": {"X": ["a*", ["a"], {"a": "b"}]}},
            {"allowed_parameters": {"*": []}},
            {"allowed_parameters": {"*": ["q"]}},
            {"allowed_parameters": {"*": [], "x": ["a"]}},
            {"allowed_parameters": {}},
            {"denied_parameters": {"x": []}},
            {"denied_parameters": {"x": ["a", True]}},
            {"denied_parameters": {"*": ["q"]}},
            {"required_parameters": ["X"]},
            {"required_parameters": ["x"], "denied_parameters": {"x": ["*b"]}, "allowed_parameters": {"x": ["*a*"]}},
        ]:
            write = {"verb": "write", "path": "kv/p", "create": True, "data": given}
            yield record([rule("kv/p", "create", "patch", **more)], [], [write, {**write, "verb": "patch"}])
    for limits in [[5], [0], [5, 3]]:
        for required in [[], ["limit"], ["LIMIT"]]:
            texts = [rule("kv/*", "list", "scan", pagination_limit=limit, required_parameters=required) for limit in limits]
            asked = [{}] + [{"limit": text} for text in ("0", "1", "4", "6", "-1", "x", "max", "MAX", "")]
            yield record(texts, [], [{"verb": verb, "path": "kv/l", "data": data} for data in asked for verb in ("list", "scan")])
    for wraps in [[("5", "")], [("", "60")], [("5", "60")], [("5", "60"), ("10", "30s")], [("50", "60"), ("", "20")], [("0", "0")]]:
        texts = [rule("kv/w", "read", "delete", **{k: v for k, v in zip(("min_wrapping_ttl", "max_wrapping_ttl"), wrap) if v}) for wrap in wraps]
        yield record(texts, [], [{"verb": verb, "path": "kv/w", "wrap": ttl} for ttl in (None, 1, 5, 7, 25, 45, 60, 61) for verb in ("read", "delete")])


def at_random(dice):
    segments = ["a", "b", "ab", "abc", "b+", "+b", "(a", "é", "z"]

    def pattern():
        parts = [dice.choice(segments + ["+"] * 5) for _ in range(dice.randint(1, 4))]
        text = "/".join(["kv" if dice.random() < 0.8 else "+"] + parts) + dice.choice(["", "", "/", "/*", "*"])
        return dice.choice(["*", "kv/*"]) if dice.random() < 0.05 else text.replace("+*", "*")

    def values():
        return [dice.choice(["a", "b", "a*", "*a", "*b*", "**", "*", True, ["a"]]) for _ in range(dice.randint(0, 2))]

    def stanza():
        if dice.random() < 0.1:
            return rule(pattern(), "deny")
        more = {}
        if dice.random() < 0.3:
            more["allowed_parameters"] = {name: values() for name in dice.sample(["x", "y", "Z", "*"], dice.randint(0, 2))}
        if dice.random() < 0.2:
            more["denied_parameters"] = {name: values() for name in dice.sample(["x", "y", "Z", "*"], dice.randint(0, 2))}
        if dice.random() < 0.1:
            more["required_parameters"] = [dice.choice(["x", "Y", "limit"])]
        if dice.random() < 0.1:
            more.update(dice.choice([{"min_wrapping_ttl": 10}, {"max_wrapping_ttl": "20s"}]))
        if dice.random() < 0.2:
            more["pagination_limit"] = dice.randint(1, 5)
        known = ["create", "read", "update", "patch", "delete", "list", "scan"]
        return rule(pattern(), *[name for name in known if dice.random() < 0.6], **more)

    def question():
        verb = dice.choice(["read", "write", "patch", "delete", "list", "scan"])
        data = {dice.choice(["x", "X", "y", "z", "other"]): dice.choice(["a", "b", "ab", "aba"]) for _ in range(dice.randint(0, 2))}
        if dice.random() < 0.3:
            data["limit"] = dice.choice(["3", "max", "0", "-1", "x"])
        path = "/".join(["kv"] + [dice.choice(segments) for _ in range(dice.randint(1, 4))])
        found = {"verb": verb, "path": path, "data": data, "wrap": dice.choice([None, None, 5, 15, 30])}
        return {**found, "create": dice.random() < 0.5} if verb == "write" else found

    for _ in range(SETS):
        texts = ["".join(stanza() for _ in range(dice.randint(1, 5))) for _ in range(dice.randint(1, 4))]
        questions = [question() for _ in range(QUESTIONS)]
        yield record(texts, sorted({question["path"] for question in questions}), questions)


call("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "1"}})
call("POST", "sys/namespaces/n", {})
call("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "1"}}, namespace="n/")
version = must(call("GET", "sys/health"))["version"]
cases = [*by_hand(), *at_random(random.Random(SEED))]
print(json.dumps({"openbao": version}) + "\n" + "\n".join(json.dumps(case, ensure_ascii=False) for case in cases))
