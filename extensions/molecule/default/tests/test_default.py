# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: the rendezvous.wireguard authors
"""What `site.yml` has deployed works, goes on working while it is touched, and grows by a peer.

The tests run in this order on one deployed network; each leaves alice and bob directly connected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.containers.fixtures import Report, RunSite
from tests.containers.mesh import (
    Machine,
    Mesh,
    Pinger,
    PlaybookRun,
    Transfer,
    ansible_playbook,
    wait_until,
    watched,
)

AGENT = "wg-rendezvous-agent@wg0"
GIVE_BACK = "wg-rendezvous-give-back@wg0"
GIVE_BACK_S = 15.0
"""As its unit has it."""
PASS_S = 3.0
"""wg_peer_interval_s of the inventory."""
TO_RELAY_S = 2 * PASS_S + 5
TO_DIRECT_S = 10 * PASS_S

WITH_CAROL = ("inventory.yml", "carol.yml", "admin.yml")

DROPS_INVALID = (
    "table ip hub_admin { chain forward { type filter hook forward priority 0; ct state invalid drop; }; }"
)
DROP_POLICY = """
table inet admin {{
    chain input {{
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname "lo" accept
        {accept}
        iifname "wg0" accept
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "wg0" oifname "wg0" accept
    }}
}}
"""


@pytest.fixture(scope="module")
def hub(mesh: Mesh) -> Machine:
    """The hub."""
    return mesh["hub"]


@pytest.fixture(scope="module")
def alice(mesh: Mesh) -> Machine:
    """A peer on Debian 12."""
    return mesh["alice"]


@pytest.fixture(scope="module")
def bob(mesh: Mesh) -> Machine:
    """A peer on Debian 13."""
    return mesh["bob"]


def load_rules(machine: Machine, rules: str) -> None:
    """Load nftables rules, as the machine's admin."""
    machine.run(f"nft '{rules}'")


def stop_agents(*machines: Machine) -> None:
    """Stop the agents; the tunnels to the hub stay."""
    for machine in machines:
        machine.run(f"systemctl stop {AGENT}")


def start_agents(*machines: Machine) -> None:
    """Start the agents again, about at once."""
    for machine in machines:
        machine.run(f"systemctl start {AGENT}")


def test_roles_installed_packages_and_units(mesh: Mesh) -> None:
    for name in ("hub", "alice", "bob"):
        host = mesh[name].host
        assert host.package("wireguard-tools").is_installed
        assert host.package("python3-aiohttp").is_installed
        assert host.service("wg-quick@wg0").is_enabled
        unit = host.service("wg-rendezvous-hub@wg0" if name == "hub" else AGENT)
        assert unit.is_running
        assert unit.is_enabled
        for file in ("/etc/wireguard/wg0.conf", "/etc/wireguard/wg0.key"):
            assert host.file(file).mode == 0o600


def test_services_start_from_what_was_compiled_at_the_installation(mesh: Mesh) -> None:
    for name, unit in (("hub", "wg-rendezvous-hub@wg0"), ("alice", AGENT), ("bob", AGENT)):
        pid = mesh[name].run(f"systemctl show -P MainPID {unit}").strip()
        held = mesh[name].run(f"ls -l /proc/{pid}/fd")
        assert "/usr/local/lib/wg-rendezvous/__pycache__/wg-rendezvous-" in held


def test_both_debian_releases_run(hub: Machine, alice: Machine) -> None:
    assert alice.host.system_info.release.startswith("12")
    assert hub.host.system_info.release.startswith("13")


def test_relay_works_without_agents_and_direct_with_them(
    mesh: Mesh, alice: Machine, bob: Machine, report: Report
) -> None:
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    stop_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "relay", TO_RELAY_S)
    with Pinger(alice, bob) as pinger:
        start_agents(alice, bob)
        to_direct_s = mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    lost = f"{pinger.lost} of {pinger.sent} pings lost"
    report(f"default: direct {to_direct_s:.1f} s after the agents' start, {lost}")
    assert pinger.lost <= 2


def test_ipv6_and_a_subnet_behind_a_peer_take_the_path_that_its_address_takes(
    mesh: Mesh, alice: Machine, bob: Machine
) -> None:
    bob.run("ip address replace 10.70.0.1/24 dev lo")
    assert bob.run("cat /proc/sys/net/ipv4/ip_forward") == "1\n"

    def answers_come(ttl: int) -> None:
        for address in ("fd77::6", "10.70.0.1"):
            assert f"ttl={ttl} " in alice.run(f"ping -n -c 1 -W 2 {address}")

    answers_come(64)
    stop_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "relay", TO_RELAY_S)
    answers_come(63)
    start_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    answers_come(64)


def test_tcp_survives_relay_direct_relay_direct_while_the_hub_drops_invalid(
    mesh: Mesh, hub: Machine, alice: Machine, bob: Machine, tmp_path: Path, report: Report
) -> None:
    load_rules(hub, DROPS_INVALID)
    stop_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "relay", TO_RELAY_S)
    with Transfer(alice, bob, tmp_path) as transfer:
        transfer.flows()
        start_agents(alice, bob)
        mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
        transfer.flows()
        stop_agents(alice, bob)
        mesh.wait_for_path(alice, bob, "relay", TO_RELAY_S)
        transfer.flows()
        start_agents(alice, bob)
        mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
        transfer.flows()
        longest_s = transfer.finish()
    report(f"default: TCP over relay, direct, relay, direct: longest pause {longest_s:.1f} s")
    hub.run("nft delete table ip hub_admin")


@pytest.fixture(scope="module")
def drop_policies(hub: Machine, alice: Machine) -> Iterator[None]:
    """Hub and alice have a firewall of their own that drops whatever it does not know."""
    load_rules(hub, DROP_POLICY.format(accept="udp dport 51820 accept"))
    load_rules(alice, DROP_POLICY.format(accept=""))
    yield
    for machine in (hub, alice):
        machine.run("nft delete table inet admin")


@pytest.mark.usefixtures("drop_policies")
def test_drop_policies_that_accept_what_is_needed_leave_relay_and_direct_path(
    mesh: Mesh, alice: Machine, bob: Machine
) -> None:
    stop_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "relay", TO_RELAY_S)
    start_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)


@pytest.mark.usefixtures("drop_policies")
def test_second_run_changes_nothing_and_loses_nothing_while_direct_and_after_a_fresh_port(
    mesh: Mesh, alice: Machine, bob: Machine, run_site: RunSite
) -> None:
    port = int(alice.run("wg show wg0 listen-port"))
    alice.run(f"wg set wg0 listen-port {port - 1 if port > 50000 else port + 1}")
    mesh.wait_for_path(alice, bob, "direct", 2 * TO_DIRECT_S)
    with Pinger(alice, bob) as pinger:
        second = run_site()
    assert second.exit_code == 0, second.output
    assert second.changed_hosts == {}, second.output
    assert second.tasks.keys() == {"hub", "alice", "bob"}
    for host, tasks in second.tasks.items():
        assert len(tasks) <= 6, f"{host}: {tasks}"
    assert pinger.lost == 0
    assert mesh.path(alice, bob) == "direct"


def test_peers_of_other_tools_stay_in_the_file_and_in_the_running_interface(
    run_site: RunSite, alice: Machine
) -> None:
    in_file, running = (alice.run("wg genkey | wg pubkey").strip() for _ in range(2))
    before = alice.run("cat /etc/wireguard/wg0.conf")
    section = f"\n# somebody else's\n[Peer]\nPublicKey = {in_file}\nAllowedIPs = 192.168.7.201/32\n"
    alice.run(f"cat >> /etc/wireguard/wg0.conf <<'END'\n{section}END")
    alice.run(f"wg set wg0 peer {running} allowed-ips 192.168.7.202/32 persistent-keepalive 21")
    wanted = alice.run(f"cat /etc/wireguard/wg0.conf; wg show wg0 dump | grep {running}")

    run = run_site()

    assert (run.exit_code, run.changed_hosts) == (0, {}), run.output
    assert alice.run(f"cat /etc/wireguard/wg0.conf; wg show wg0 dump | grep {running}") == wanted
    alice.run(f"wg set wg0 peer {running} remove; cat > /etc/wireguard/wg0.conf <<'END'\n{before}END")


def test_restart_of_the_tunnel_brings_handshake_agent_and_direct_path_back(
    mesh: Mesh, hub: Machine, alice: Machine, bob: Machine
) -> None:
    # Timed on the node, since looking through podman takes long as well.
    took_s = float(
        alice.run(
            "systemctl restart wg-quick@wg0; began=$(date +%s%N); "
            "until wg show wg0 latest-handshakes | grep -q '[^0-9][1-9][0-9]*$'; do sleep 0.02; "
            "[ $(($(date +%s%N) - began)) -lt 5000000000 ] || break; done; "
            "echo $((($(date +%s%N) - began) / 1000000))e-3"
        )
    )
    assert took_s < 1
    assert alice.pings(hub, 5) == 5
    wait_until(lambda: alice.host.service(AGENT).is_running, 10, lambda: "the agent runs again")
    mesh.wait_for_path(alice, bob, "direct", 2 * TO_DIRECT_S)


def test_reload_of_the_tunnel_keeps_the_key_and_the_link_comes_back(
    mesh: Mesh, alice: Machine, bob: Machine
) -> None:
    key = alice.run("wg show wg0 public-key")
    alice.run("systemctl reload wg-quick@wg0")
    assert alice.run("wg show wg0 public-key") == key
    wait_until(lambda: alice.pings(bob, 4) == 4, TO_RELAY_S, lambda: "pings over any path after the reload")
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)


def test_an_agent_that_is_killed_keeps_its_links(mesh: Mesh, alice: Machine, bob: Machine) -> None:
    with Pinger(bob, alice) as pinger:
        before = alice.run(f"systemctl show -P InvocationID {AGENT}")
        alice.run(f"systemctl kill -s KILL {AGENT}")
        wait_until(
            lambda: (
                alice.run(f"systemctl show -P InvocationID {AGENT}") != before
                and alice.host.service(AGENT).is_running
            ),
            10,
            lambda: "the agent runs again",
        )
        wait_until(
            lambda: not alice.host.service(GIVE_BACK).is_running,
            5,
            lambda: "nobody gives its links back",
        )
    assert pinger.lost == 0
    assert mesh.path(alice, bob) == "direct"


def test_an_agent_that_cannot_run_any_more_gives_its_links_back_and_takes_up_its_work_when_it_can(
    mesh: Mesh, alice: Machine, bob: Machine
) -> None:
    program = "/usr/local/lib/wg-rendezvous/wg-rendezvous.pyz"
    alice.run(f"mv {program} {program}.away; echo damaged > {program}; chmod +x {program}")
    alice.run(f"systemctl kill -s KILL {AGENT}")
    mesh.wait_for_path(alice, bob, "relay", GIVE_BACK_S + TO_RELAY_S)
    assert bob.public_key not in alice.run("wg show wg0 peers")
    state = alice.run(f"systemctl show -P ActiveState {AGENT}").strip()
    assert state in ("activating", "deactivating")  # it goes on trying
    alice.run(f"mv {program}.away {program}")
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    assert alice.host.service(AGENT).is_running


def test_check_mode_on_a_fresh_host_runs_to_its_end_and_changes_nothing(
    mesh: Mesh, run_site: RunSite
) -> None:
    fresh = mesh["carol"]
    assert not fresh.host.exists("wg")
    inventories = ("inventory.yml", "carol.yml")
    run = run_site("--limit=carol", "--check", "--diff", inventories=inventories)
    assert run.exit_code == 0, run.output
    assert run.changed_hosts.keys() == {"carol"}
    assert not fresh.host.exists("wg")
    assert not fresh.host.file("/etc/wireguard/wg0.conf").exists


def test_check_mode_goes_on_where_a_first_run_failed_half_way(mesh: Mesh, run_site: RunSite) -> None:
    carol = mesh["carol"]
    inventories = ("inventory.yml", "carol.yml")
    carol.run("mount -t tmpfs -o ro none /usr/local/bin")  # nothing can be shipped there
    failed = run_site("--limit=carol", inventories=inventories)
    assert failed.recap["carol"].failed == 1, failed.output
    assert carol.host.file("/etc/systemd/system/wg-rendezvous-firewall@.service").exists
    assert not carol.host.file("/etc/systemd/system/wg-rendezvous-agent@.service").exists

    carol.run("umount /usr/local/bin")
    run = run_site("--limit=carol", "--check", "--diff", inventories=inventories)
    assert run.exit_code == 0, run.output


@dataclass(frozen=True)
class Join:
    """Carol's first complete run, others before and after it, the pings they lost, her longest absence."""

    run: PlaybookRun
    before: list[str]
    after: list[str]
    lost: list[int]
    gap_s: float


@pytest.fixture(scope="module")
def join(
    mesh: Mesh,
    hub: Machine,
    alice: Machine,
    bob: Machine,
    run_site: RunSite,
    tmp_path_factory: pytest.TempPathFactory,
) -> Join:
    """Carol is added, by a user who has to become root, with all the output that there is."""
    mesh["carol"].run("useradd --create-home admin")
    mesh["carol"].run("sed -i '1i auth sufficient pam_permit.so' /etc/pam.d/su")
    units = {hub: "wg-rendezvous-hub@wg0", alice: AGENT, bob: AGENT}

    def state() -> list[str]:
        return [
            machine.run(f"systemctl show -P ActiveEnterTimestampMonotonic wg-quick@wg0 {unit}")
            for machine, unit in units.items()
        ]

    before = state()
    with (
        Pinger(hub, mesh["carol"], "192.168.7.7") as to_carol,
        watched([(alice, bob), (bob, hub)], tmp_path_factory.mktemp("join")) as pingers,
    ):
        run = run_site("-vvv", "--diff", "--limit=carol", inventories=WITH_CAROL)
    return Join(run, before, state(), [pinger.lost for pinger in pingers], to_carol.gap_s)


def test_a_peer_is_added_by_the_inventory_and_limit_and_nobody_else_changes(
    mesh: Mesh, alice: Machine, bob: Machine, join: Join
) -> None:
    assert join.run.exit_code == 0, join.run.output
    assert join.run.recap.keys() == {"carol"}
    assert {"hub", "carol"} == join.run.tasks.keys()
    for host, tasks in join.run.tasks.items():
        assert len([task for task in tasks if "Install the packages" not in task]) <= 9, f"{host}: {tasks}"
    assert join.lost == [0, 0]
    assert join.gap_s <= 1.0
    assert join.after == join.before
    for other in (alice, bob):
        mesh.wait_for_path(mesh["carol"], other, "direct", 2 * TO_DIRECT_S)
    assert mesh.path(alice, bob) == "direct"


def test_a_user_who_becomes_root_deploys_as_root_does(mesh: Mesh, join: Join) -> None:
    assert "podman" in join.run.output
    assert "su  root" in join.run.output
    assert mesh["carol"].host.file("/etc/wireguard/wg0.key").user == "root"


def test_no_secret_is_in_the_whole_output_of_a_run(mesh: Mesh, join: Join) -> None:
    assert "AllowedIPs = 192.168.7.99/32" in join.run.output
    for machine in (mesh["hub"], mesh["alice"], mesh["bob"], mesh["carol"]):
        assert machine.run("cat /etc/wireguard/wg0.key").strip() not in join.run.output
    (preshared_key,) = re.findall(r"PresharedKey = (\S+)", mesh["carol"].run("cat /etc/wireguard/wg0.conf"))
    assert preshared_key not in join.run.output


@pytest.mark.usefixtures("join")
def test_the_status_playbook_says_who_reaches_whom_how(scenario: Path) -> None:
    inventories = [scenario / name for name in WITH_CAROL]
    run = ansible_playbook("rendezvous.wireguard.status", inventories)
    assert run.exit_code == 0, run.output
    assert run.changed_hosts == {}
    for pair in ("alice +bob", "alice +carol", "bob +carol"):
        line = rf"^{pair} +direct .* \S+:\d+ <-> \S+:\d+$"
        assert re.search(line, run.output, re.MULTILINE), run.output
    for peer in ("alice", "bob", "carol"):
        assert re.search(rf"^hub +{peer} +online .* \S+:\d+", run.output, re.MULTILINE), run.output
    assert re.search(r"^\d+ pairs: \d+ direct", run.output, re.MULTILINE), run.output


CAROL = "carol.example.net"
FORWARDED = """
table ip forwarded {{
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        iifname "wan" udp dport 51821 dnat to {address}
    }}
}}
insert rule ip nat_profile forward ct status dnat accept
"""


class Workshop:
    """The second network of docs/networks.md, deployed from what is written there: carol, a peer of the first
    one, is its hub, and the first one's hub and bob are its peers.
    """

    def __init__(self, scenario: Path, directory: Path) -> None:
        self.mesh = Mesh(scenario / "network.yml", "wg1", hub="carol")
        text = (scenario.parents[2] / "docs/networks.md").read_text()
        section = text.partition("## Several networks on one host\n")[2].partition("\n## ")[0]
        inventory, playbook = re.findall(r"^```yaml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        self.playbook = directory / "roles.yml"
        self.playbook.write_text(playbook)
        (directory / "workshop.yml").write_text(inventory)
        self.inventories = [directory / "workshop.yml", scenario / "workshop.yml"]

    def run(self, playbook: str, *arguments: str) -> PlaybookRun:
        """A playbook of the collection with the inventory of this network."""
        return ansible_playbook(f"rendezvous.wireguard.{playbook}", self.inventories, *arguments)


@pytest.fixture(scope="module")
def workshop(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Not deployed yet. Carol's router forwards her port, and a name server would know her."""
    workshop = Workshop(scenario, tmp_path_factory.mktemp("workshop"))
    mesh, site = workshop.mesh, workshop.mesh.network.sites["carol"]
    nat = f"nat-{site.letter}"
    mesh.router(nat, "nft", FORWARDED.format(address=f"10.0.{site.number}.2"))
    for name in ("hub", "bob"):
        mesh[name].run(f"echo {site.nat_address} {CAROL} >>/etc/hosts")
    yield workshop
    mesh.router(nat, "nft", "delete table ip forwarded")


def started(machine: Machine, *units: str) -> list[str]:
    """The invocations of units that run."""
    names = " ".join(units)
    machine.run(f"systemctl is-active {names}")
    return machine.run(f"systemctl show -P InvocationID {names}").split()


@pytest.mark.usefixtures("join", "drop_policies")
def test_a_hub_of_one_network_is_a_peer_of_another_and_a_run_of_one_loses_nothing_in_the_other(
    mesh: Mesh, hub: Machine, alice: Machine, bob: Machine, workshop: Workshop, run_site: RunSite
) -> None:
    carol, inner = mesh["carol"], workshop.mesh
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
    with Pinger(alice, bob) as pinger, Pinger(alice, hub) as to_hub:
        first = workshop.run("site")
    assert first.exit_code == 0, first.output
    assert (pinger.lost, to_hub.lost) == (0, 0)
    inner.wait_for_path(inner["hub"], inner["bob"], "direct", TO_DIRECT_S)
    assert mesh.path(alice, bob) == "direct"
    assert 'iifname "wg1" udp dport 8080' in hub.run("nft list chain inet admin input")

    with Pinger(alice, bob) as pinger:
        second = workshop.run("site")
    assert (second.exit_code, second.changed_hosts, pinger.lost) == (0, {}, 0), second.output
    assert second.tasks.keys() == {"carol", "hub.example.net", "bob"}
    assert all(len(tasks) <= 6 for tasks in second.tasks.values()), second.tasks

    agents, tunnels = (
        [f"{unit}@{name}" for name in ("wg0", "wg1")] for unit in ("wg-rendezvous-agent", "wg-quick")
    )
    before = started(bob, *agents), started(bob, *tunnels)
    bob.run("echo an older program >>/usr/local/lib/wg-rendezvous/wg-rendezvous.pyz")
    with Pinger(inner["hub"], inner["bob"]) as pinger:
        other = run_site(inventories=WITH_CAROL)
    assert (other.exit_code, pinger.lost) == (0, 0), other.output
    assert other.changed_hosts.keys() == {"bob"}, (
        "the other network has changed nothing but the older program"
    )
    assert set(started(bob, *agents)).isdisjoint(before[0]), "the agents of both networks run the new program"
    assert started(bob, *tunnels) == before[1]
    assert inner.path(inner["hub"], inner["bob"]) == "direct"
    assert not carol.run(
        f"ping -c 1 -W 1 -I {inner['carol'].vpn_address} {alice.vpn_address} | grep ttl=", check=False
    )


@pytest.mark.usefixtures("join")
def test_a_playbook_with_the_roles_twice_on_a_host_makes_the_same_networks(
    scenario: Path, workshop: Workshop
) -> None:
    inventories = [scenario / name for name in ("inventory.yml", "carol.yml")]
    run = ansible_playbook(str(workshop.playbook), inventories)
    assert (run.exit_code, run.changed_hosts) == (0, {}), run.output
    assert run.recap.keys() == {"carol", "bob"}


def test_the_status_of_a_network_is_about_that_one(workshop: Workshop) -> None:
    run = workshop.run("status")
    assert run.exit_code == 0, run.output
    assert re.search(r"bob +hub.example.net +direct .* \S+:\d+ <-> \S+:\d+", run.output), run.output
    for peer in ("bob", "hub.example.net"):
        assert re.search(rf"carol +{peer} +online ", run.output), run.output
    assert "1 pair: 1 direct" in run.output
    assert "alice" not in run.output


def test_both_hubs_relay_beside_a_peer_of_the_other_network(
    mesh: Mesh, alice: Machine, bob: Machine, workshop: Workshop
) -> None:
    inner = workshop.mesh
    bob.run("systemctl stop wg-rendezvous-agent@wg0 wg-rendezvous-agent@wg1")
    inner.wait_for_path(inner["hub"], inner["bob"], "relay", TO_RELAY_S)
    mesh.wait_for_path(alice, bob, "relay", TO_RELAY_S)
    bob.run("systemctl start wg-rendezvous-agent@wg0 wg-rendezvous-agent@wg1")
    inner.wait_for_path(inner["hub"], inner["bob"], "direct", TO_DIRECT_S)
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)


def test_a_network_that_is_removed_leaves_the_other_alone(
    mesh: Mesh, hub: Machine, alice: Machine, bob: Machine, workshop: Workshop
) -> None:
    units = {
        hub: ("wg-quick@wg0", "wg-rendezvous-firewall@wg0", "wg-rendezvous-hub@wg0"),
        bob: ("wg-quick@wg0", "wg-rendezvous-firewall@wg0", AGENT),
        mesh["carol"]: ("wg-quick@wg0", "wg-rendezvous-firewall@wg0", AGENT),
    }
    before = {machine: started(machine, *names) for machine, names in units.items()}
    forget = ("-e", "wg_interface_uninstall_all=true", "-e", "wg_interface_forget_key=true")
    with Pinger(alice, bob) as pinger, Pinger(mesh["carol"], hub) as to_hub:
        run = workshop.run("uninstall", *forget)
    assert run.exit_code == 0, run.output
    assert run.changed_hosts.keys() == {"carol", "hub.example.net", "bob"}
    assert (pinger.lost, to_hub.lost) == (0, 0)
    assert {machine: started(machine, *names) for machine, names in units.items()} == before
    for machine in units:
        assert machine.run("wg show interfaces") == "wg0\n"
        places = "/etc/wireguard /etc/wg-rendezvous /etc/sysctl.d /run/wg-rendezvous /var/lib/wg-rendezvous"
        assert not machine.run(f"find {places} -name '*wg1*'")
        assert not machine.run("systemctl list-units --all --no-legend '*@wg1*'")
        assert "wg1" not in machine.run("nft list ruleset")
    assert hub.run("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
    stop_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "relay", TO_RELAY_S)
    start_agents(alice, bob)
    mesh.wait_for_path(alice, bob, "direct", TO_DIRECT_S)
