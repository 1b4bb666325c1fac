"""hvac saves and restores snapshots: run by tests/acceptance/snapshots.rs.

Usage: snapshots.py < {"addresses": [...], "token": a root token}

Prints a line a check, then "N passed, N failed"; ends with 1 if one has failed. Neighbouring checks ask different nodes.
"""

import itertools
import json
import sys

import hvac
from hvac import exceptions

from checks import Checks


def main():
    given = json.load(sys.stdin)
    turns = itertools.cycle(given["addresses"])
    checks = Checks()

    def client():
        return hvac.Client(url=next(turns), token=given["token"], timeout=20)

    def put(value):
        client().secrets.kv.v2.create_or_update_secret("hvac/snapshots", {"value": value})

    def has(value):
        read = client().secrets.kv.v2.read_secret_version("hvac/snapshots", raise_on_deleted_version=True)
        assert read["data"]["data"]["value"] == value, read

    saved = {}

    def save():
        put("before")
        answer = client().sys.take_raft_snapshot()
        assert answer.status_code == 200, answer
        saved["bytes"] = answer.content
        assert saved["bytes"][:2] == b"\x1f\x8b", saved["bytes"][:16]

    def restore():
        put("after")
        answer = client().sys.restore_raft_snapshot(saved["bytes"])
        assert answer.status_code == 204, answer
        for _ in given["addresses"]:
            has("before")

    def force():
        put("after")
        answer = client().sys.force_restore_raft_snapshot(saved["bytes"])
        assert answer.status_code == 204, answer
        has("before")

    def damaged():
        cut = saved["bytes"][: len(saved["bytes"]) // 2]
        try:
            client().sys.restore_raft_snapshot(cut)
        except exceptions.InvalidRequest as error:
            assert "cut short" in str(error), error
        else:
            raise AssertionError("half a snapshot was restored")
        has("before")

    for check in (save, restore, force, damaged):
        checks.run(check.__name__, check)
    checks.finish(4)


main()
