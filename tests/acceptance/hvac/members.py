"""hvac asks for the members and changes them: run by tests/acceptance/members.rs.

Usage: members.py < {"addresses": [...], "token": a root token}

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
        return hvac.Client(url=next(turns), token=given["token"], timeout=40)

    def servers():
        return client().sys.read_raft_config()["data"]["config"]["servers"]

    def leader():
        return next(server["node_id"] for server in servers() if server["leader"])

    def configuration():
        for _ in given["addresses"]:
            found = servers()
            assert len(found) == 3, found
            assert sum(server["leader"] for server in found) == 1, found
            assert all(server["voter"] and server["protocol_version"] == "3" for server in found), found

    def step_down():
        before = leader()
        answer = client().sys.step_down()
        assert answer.status_code == 204, answer
        assert leader() != before, before

    def stranger():
        try:
            client().sys.remove_raft_node("nobody")
        except exceptions.InvalidRequest as error:
            assert "nobody is no member" in str(error), error
        else:
            raise AssertionError("a stranger was removed")

    def nameless():
        try:
            client().sys.remove_raft_node("")
        except exceptions.InvalidRequest as error:
            assert "no server id provided" in str(error), error
        else:
            raise AssertionError("nobody was removed")

    for check in (configuration, step_down, stranger, nameless):
        checks.run(check.__name__, check)
    checks.finish(4)


main()
