# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""The decisions of an agent, without I/O: events and the time go in, actions come out.

Nothing in here opens a socket, starts a process, reads a clock or knows asyncio.  The
agent (`wg_rendezvous.agent`) and the simulation (`tests/simulation`) both drive
`mesh.Mesh`, which holds one `link.Link` for every other peer and one `refresh.Refresh`
for the node's own port.
"""
