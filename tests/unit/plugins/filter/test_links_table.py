# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""The mesh as a table: what people read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.rendezvous.wireguard.plugins.filter.links_table import links_table
from tests.unit.plugins.inventory.fake_hub import ALICE, BOB, CAROL, PHONE, report
from tests.unit.program.hub.fake import key

HUB = key(1)
NOW_AT = 10000.0


def link(to: str, state: str, **fields: Any) -> dict[str, Any]:
    return {"to": to, "online": True, **report(state, **fields)}


def direct(to: str, endpoint: str, **fields: Any) -> dict[str, Any]:
    usual = {"strategy": "reflexive", "endpoint": endpoint, "rtt_s": 0.0098, "why": None}
    return link(to, "direct", **{**usual, **fields})


def agent(own: str, *links: dict[str, Any], asked_at: float = NOW_AT) -> dict[str, Any]:
    """What `mesh_info` returns on a peer."""
    told = [{"from": own, **one} for one in links]
    peers = [{"public_key": one["to"], "name": None, "address": None, "online": True} for one in links]
    mesh = {"role": "agent", "public_key": own, "asked_at": asked_at, "peers": peers, "links": told}
    return {"changed": False, "mesh": mesh}


def hub(*peers: dict[str, Any], links: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """What it returns on the hub."""
    mesh = {"role": "hub", "public_key": HUB, "asked_at": NOW_AT, "peers": peers, "links": list(links)}
    return {"changed": False, "mesh": mesh}


def peer(public_key: str, name: str | None, online: bool = True, **fields: Any) -> dict[str, Any]:
    usual = {
        "address": "192.168.7.9/32",
        "endpoint": "192.0.2.9:51820",
        "latest_handshake_at": 0,
        "why": None,
    }
    return {"public_key": public_key, "name": name, "online": online, **usual, **fields}


TABLE = """\
FROM   TO     STATE    VIA        RTT     SINCE  ENDPOINTS, OR WHY NOT DIRECT
hub    alice  online   -          -       -      192.0.2.5:51820
hub    bob    online   -          -       -      192.0.2.6:40122
hub    carol  offline  -          -       -      no handshake for 3 h, 192.0.2.7:51820
hub    phone  online   -          -       -      it has no endpoint yet
alice  bob    direct   reflexive  9.8 ms  5 min  192.0.2.5:51820 <-> 192.0.2.6:40122
alice  phone  relayed  relay      -       -      its agent does not answer, relayed
bob    phone  relayed  relay      -       7 s    its agent does not answer, relayed
carol  -      unknown  -          -       -      Failed to connect to the host via ssh: no
                                                 route to host
3 pairs: 1 direct, 2 relayed; 1 offline; 1 did not answer: carol"""


def test_a_mesh_is_one_table() -> None:
    answers = {
        "hub": hub(
            peer(ALICE, "alice", endpoint="192.0.2.5:51820"),
            peer(BOB, "bob", endpoint="192.0.2.6:40122"),
            peer(
                CAROL, "carol", online=False, endpoint="192.0.2.7:51820", latest_handshake_at=NOW_AT - 10800
            ),
            peer(PHONE, "phone", endpoint=None, why="it has no endpoint yet"),
        ),
        "alice": agent(
            ALICE,
            direct(BOB, "192.0.2.6:40122", since_at=NOW_AT - 600),
            link(CAROL, "relayed", online=False, why="the hub says that it is offline"),
            link(PHONE, "relayed", why="its agent does not answer, relayed", since_at=None),
        ),
        "bob": agent(
            BOB,
            direct(ALICE, "192.0.2.5:51820", since_at=NOW_AT - 300, rtt_s=0.0101),
            link(PHONE, "relayed", why="its agent does not answer, relayed", since_at=NOW_AT - 7),
        ),
        "carol": {"unreachable": True, "msg": "Failed to connect to the host via ssh: no route to host"},
    }
    assert "\n".join(links_table(answers, width=93)) == TABLE


def rows(answers: dict[str, dict[str, Any]], **options: Any) -> list[list[str]]:
    """The cells of the lines between the header and the last one."""
    return [line.split() for line in links_table(answers, **options)[1:-1]]


@pytest.mark.parametrize(
    ("forth", "back", "state"),
    [
        ("direct", "direct", "direct"),
        ("direct", "doubtful", "direct"),
        ("provisional", "provisional", "direct"),
        ("direct", "relayed", "changing"),
        ("relayed", "relayed", "relayed"),
        ("opening", "relayed", "trying"),
        ("knocking", "opening", "trying"),
        ("something newer", "relayed", "relayed"),
        ("direct", None, "direct"),
    ],
)
def test_what_both_ends_say_is_one_state(forth: str, back: str | None, state: str) -> None:
    answers = {"alice": agent(ALICE, link(BOB, forth)), "bob": agent(BOB)}
    if back:
        answers["bob"] = agent(BOB, link(ALICE, back))
    assert [row[:3] for row in rows(answers)] == [["alice", "bob", state]]


def test_ends_that_do_not_agree_say_so() -> None:
    answers = {"alice": agent(ALICE, link(BOB, "direct")), "bob": agent(BOB, link(ALICE, "relayed"))}
    assert links_table(answers)[1].endswith("alice says direct, bob says relayed")


def test_different_reasons_have_the_names_of_who_says_them() -> None:
    answers = {
        "alice": agent(ALICE, link(BOB, "relayed", why="no answer")),
        "bob": agent(BOB, link(ALICE, "relayed", why="tried again in 3 s")),
    }
    assert links_table(answers)[1].endswith("alice: no answer; bob: tried again in 3 s")


def test_without_a_hubs_answer_who_is_offline_is_at_the_links() -> None:
    offline = link(BOB, "relayed", online=False, why="the hub says that it is offline")
    assert rows({"alice": agent(ALICE, offline)})[0][2] == "offline"


def test_an_agents_own_words_count_more_than_its_report_to_the_hub() -> None:
    reported = {"from": ALICE, **link(BOB, "relayed")}
    answers = {"alice": agent(ALICE, direct(BOB, "192.0.2.6:5")), "hub": hub(links=(reported,))}
    assert [row[2] for row in rows(answers)] == ["direct"]


def test_the_hub_knows_the_links_of_agents_that_were_not_asked() -> None:
    links = ({"from": ALICE, **link(BOB, "direct")}, {"from": BOB, **link(ALICE, "direct")})
    answers = {"hub": hub(peer(ALICE, "alice"), peer(BOB, None), links=links)}
    assert rows(answers)[-1][:3] == ["192.168.7.9", "alice", "direct"]


def test_a_peer_without_name_and_address_has_the_beginning_of_its_key() -> None:
    assert rows({"alice": agent(ALICE, link(BOB, "relayed"))})[0][:2] == [f"{BOB[:10]}...", "alice"]


def test_node10_comes_after_node9() -> None:
    links = [link(key(number), "relayed") for number in range(9, 12)]
    answers = {"alice": agent(ALICE, *links), **{f"node{n}": agent(key(n)) for n in (10, 9, 11)}}
    assert [row[1] for row in rows(answers)] == ["node9", "node10", "node11"]


def test_times_are_by_the_clock_of_who_says_them() -> None:
    late = agent(ALICE, direct(BOB, "192.0.2.6:5", since_at=500000.0), asked_at=500030.0)
    assert " 30 s " in links_table({"alice": late})[1]


def test_widths_are_bounded_and_nothing_is_lost() -> None:
    why = " ".join(f"word{number}" for number in range(40))
    answers = {"a" * 60: agent(ALICE, link(BOB, "relayed", why=why)), "bob": agent(BOB)}
    lines = links_table(answers, width=110)
    assert max(map(len, lines)) <= 110
    assert " ".join(" ".join(lines).split()).count(" word") == 40


def test_what_could_change_a_terminal_is_not_printed() -> None:
    line = links_table({"alice": agent(ALICE, link(BOB, "relayed", why="\x1b[2Jhello"))})[1]
    assert line.endswith("?[2Jhello")


def test_nobody_has_answered() -> None:
    assert links_table({"alice": {"failed": True}})[1:] == [
        "alice  -   unknown  -    -    -      no answer",
        "0 pairs; 1 did not answer: alice",
    ]


@pytest.mark.parametrize("nonsense", [{"alice": 7}, {"alice": {"mesh": {}}}, [1]])
def test_what_is_no_result_of_mesh_info_is_refused(nonsense: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="registered results of mesh_info"):
        links_table(nonsense)
