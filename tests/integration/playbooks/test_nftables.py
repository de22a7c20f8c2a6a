# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What is inserted into others' chains is what the real nft takes, lists back, and lets go again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils import _firewall
from ansible_collections.rendezvous.wireguard.plugins.module_utils._firewall import Openings

HUB = Openings("wg0", ("192.168.7.1/24", "192.168.7.2/24", "fd00:7::1/64"), 51820, (8080,), relay=True)
PEER = Openings("wg0", ("192.168.7.5/24",), None, (8080,))
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
SITE = "".join(
    f"table inet site {{ chain {hook} {{ type filter hook {hook} priority 0; policy drop; }}; }}\n"
    for hook in HOOKS
)
NONE = Openings("wg0", HUB.addresses, backend="none")
APPLY_TWICE = """
import json, subprocess, sys
sys.path.insert(0, sys.argv[1])
import _firewall
subprocess.run(["nft", "-f", "-"], input=sys.argv[2].encode(), check=True)
for text in sys.argv[3:]:
    openings = _firewall.Openings.from_json(text)
    _firewall.apply(openings)
    left = _firewall.plan(_firewall.read_ruleset(), openings)
    rules = subprocess.run(["nft", "list", "ruleset"], stdout=subprocess.PIPE, check=True, text=True).stdout
    print(json.dumps([left.commands() if left else "", rules]))
"""


@pytest.mark.parametrize(
    ("openings", "inserted"),
    [
        (
            HUB,
            {
                "prerouting": {"udp/51820", "tcp/8080 from wg0", "what comes from wg0"},
                "input": {"udp/51820", "tcp/8080 from wg0"},
                "forward": {"from wg0 to wg0"},
                "output": {"udp from port 51820", "tcp to wg0"},
                "postrouting": {"udp from port 51820", "tcp to wg0", "what goes to wg0"},
            },
        ),
        (
            PEER,
            {
                "prerouting": {"tcp/8080 from wg0"},
                "input": {"tcp/8080 from wg0"},
                "forward": set(),
                "output": {"tcp to wg0"},
                "postrouting": {"tcp to wg0"},
            },
        ),
    ],
    ids=["hub", "peer"],
)
def test_drop_policies_at_all_hooks_are_opened_once_and_closed_again(
    openings: Openings, inserted: dict[str, set[str]]
) -> None:
    module = Path(_firewall.__file__).parent
    wanted = [openings.to_json(), NONE.to_json()]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", APPLY_TWICE, module, SITE, *wanted],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    (left, opened), (left_of_none, closed) = map(json.loads, done.stdout.splitlines())

    assert (left, left_of_none) == ("", "")
    for hook, comments in inserted.items():
        chain = opened.split("table inet site")[1].split(f"hook {hook} ")[1].split("}")[0]
        found = {line.split("wg0: ")[1].rstrip('"') for line in chain.splitlines() if "wg0: " in line}
        assert found == comments
    assert "rendezvous" not in closed
