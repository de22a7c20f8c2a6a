# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""NATs and firewalls as data, rendered to nftables rules: used by the lab and by the containers.

The words are those of RFC 4787. All profiles filter address-and-port-dependently ("port-restricted"), as
connection tracking does. They differ in the mapping, in what the router's INPUT chain does with unsolicited
inbound UDP (DESIGN section 3), and in the learning window.

A Linux `masquerade` keeps the source port while the tuple is free. Here that is called endpoint-independent,
as in the field, although a collision (DESIGN fact 1) changes the port towards one remote.
"""

from __future__ import annotations

import dataclasses

ENDPOINT_INDEPENDENT = "endpoint-independent"
ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
POLICIES = ("drop", "reject", "accept")


@dataclasses.dataclass(frozen=True)
class NatProfile:
    """What a NAT does with UDP.

    mapping              ENDPOINT_INDEPENDENT (the port is kept), ADDRESS_AND_PORT_DEPENDENT (random)
    input_policy         drop, reject or accept: what happens to unsolicited inbound UDP
    learning_window_s    only remotes contacted in the first so many seconds of a mapping may answer
    mapping_timeout_s    a firewall with a learning window forgets a mapping that has not sent for so long
    udp_timeout_s        connection tracking forgets a flow without a reply (DESIGN fact 9)
    udp_timeout_stream_s   and one with replies
    """

    mapping: str = ENDPOINT_INDEPENDENT
    input_policy: str = "drop"
    learning_window_s: float | None = None
    mapping_timeout_s: int = 120
    udp_timeout_s: int = 30
    udp_timeout_stream_s: int = 120

    def __post_init__(self) -> None:
        if self.mapping not in (ENDPOINT_INDEPENDENT, ADDRESS_AND_PORT_DEPENDENT):
            raise ValueError(
                f"mapping is {self.mapping!r}; write {ENDPOINT_INDEPENDENT} or {ADDRESS_AND_PORT_DEPENDENT}"
            )
        if self.input_policy not in POLICIES:
            raise ValueError(f"input_policy is {self.input_policy!r}; write one of {', '.join(POLICIES)}")

    def ruleset(self, lan: str = "lan", wan: str = "wan") -> str:
        """The NAT as input for `nft -f -`, in place of an earlier one; lan and wan name its interfaces."""
        masquerade = "masquerade" if self.mapping == ENDPOINT_INDEPENDENT else "masquerade fully-random"
        sets, learn, refuse = self._learning_window(lan, wan)
        return f"""
table ip nat_profile
delete table ip nat_profile
table ip nat_profile {{
{sets}
    chain input {{
        type filter hook input priority filter; policy accept;
        iifname "{wan}" meta l4proto udp {self.input_policy}
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
{learn}
        iifname "{lan}" oifname "{wan}" accept
{refuse}
        iifname "{wan}" oifname "{lan}" ct state established,related accept
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname "{wan}" {masquerade}
    }}
}}
"""

    def _learning_window(self, lan: str, wan: str) -> tuple[str, str, str]:
        """Sets, rules that learn from outbound packets, rules that refuse inbound ones."""
        if self.learning_window_s is None:
            return "", "", ""
        window = f"{round(self.learning_window_s * 1000)}ms"
        forget = f"{self.mapping_timeout_s}s"
        sets = f"""
    # A mapping is known by its internal endpoint. Its first packet opens the window.
    set mappings {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout {forget}; }}
    set windows {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout {window}; }}
    set learned {{
        type ipv4_addr . inet_service . ipv4_addr . inet_service; flags dynamic,timeout; timeout {forget};
    }}
"""
        outbound = f'        iifname "{lan}" oifname "{wan}" meta l4proto udp'
        mapping = "ip saddr . udp sport"
        flow = "ip saddr . udp sport . ip daddr . udp dport"
        learn = "\n".join(
            (
                f"{outbound} {mapping} != @mappings add @windows {{ {mapping} timeout {window} }}",
                f"{outbound} update @mappings {{ {mapping} timeout {forget} }}",
                f"{outbound} {mapping} @windows update @learned {{ {flow} timeout {forget} }}",
                f"{outbound} {flow} @learned update @learned {{ {flow} timeout {forget} }}",
            )
        )
        refuse = (
            f'        iifname "{wan}" oifname "{lan}" meta l4proto udp '
            "ip daddr . udp dport . ip saddr . udp sport != @learned drop"
        )
        return sets, learn, refuse

    def sysctls(self) -> dict[str, str]:
        """Kernel settings of the router: forwarding and the timeouts of connection tracking."""
        return {
            "net.ipv4.ip_forward": "1",
            "net.netfilter.nf_conntrack_udp_timeout": str(self.udp_timeout_s),
            "net.netfilter.nf_conntrack_udp_timeout_stream": str(self.udp_timeout_stream_s),
        }


def _profiles() -> dict[str, NatProfile]:
    profiles = {}
    for policy in POLICIES:
        profiles[f"cone {policy}"] = NatProfile(input_policy=policy)
        profiles[f"symmetric {policy}"] = NatProfile(mapping=ADDRESS_AND_PORT_DEPENDENT, input_policy=policy)
        profiles[f"learning window {policy}"] = NatProfile(input_policy=policy, learning_window_s=5)
    return profiles


PROFILES: dict[str, NatProfile] = _profiles()
"""By name: "cone drop", "symmetric accept", "learning window reject" (5 s), and so on for each policy."""
