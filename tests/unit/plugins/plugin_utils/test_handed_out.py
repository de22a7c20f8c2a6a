# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""What was handed out stays as it is unless a run is told otherwise, whatever happened in between."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ansible_collections.rendezvous.wireguard.plugins.module_utils._node import NodeError
from ansible_collections.rendezvous.wireguard.plugins.module_utils._wireguard import conf, keys, mesh_secret
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils import _handed_out
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._devices import Device, Network
from ansible_collections.rendezvous.wireguard.plugins.plugin_utils._handed_out import (
    Decision,
    Folder,
    Known,
    Wanted,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.plugins.module_utils import strategies

HUB_KEY, OWNERS, OTHERS, ALICES = (keys.public_key(keys.generate_private_key()) for _ in range(4))
NETWORK = Network(
    hub="hub", hub_addresses=("192.168.7.1/24",), endpoint="h.example.net:51820", networks=("192.168.7.0/24",)
)
PHONE = Device("phone", addresses=("192.168.7.50/24",))
PC = Device("pc", "windows", addresses=("192.168.7.51/24",), public_key=OWNERS, agent=True)
GONE = Device("phone", state="absent")


class KilledError(Exception):
    """The run ends here."""


@dataclass
class Site:
    """The controller's directory and the hub, and runs as the role makes them."""

    path: Path
    network: Network = NETWORK
    hub: dict[str, tuple[str, list[str]]] = field(
        default_factory=lambda: {ALICES: ("alice", ["192.168.7.5/32"])}
    )
    """Name and routes by key."""
    mesh_secret: str | None = None
    hub_key: str = HUB_KEY
    told_ids: dict[str, str | None] = field(default_factory=dict)
    """By key the id of the preshared key that the hub was told; None: it keeps what it has."""
    shown: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Folder:
        return Folder(str(self.path / "clients"))

    def file(self, name: str) -> Path:
        return self.path / "clients" / name

    def run(
        self, *devices: Device, kill_after: int | None = None, again: tuple[str, ...] = (), reissue: Any = ()
    ) -> list[Decision]:
        """One run; `kill_after`: so many writes, the hub's being the last."""
        known = [Known(name, key, tuple(routes)) for key, (name, routes) in self.hub.items()]
        wanted = Wanted(
            devices, self.network, self.hub_key, known, frozenset(again), frozenset(reissue), self.mesh_secret
        )
        found = {device.name: self.folder.read(device.name) for device in devices}
        decisions = _handed_out.decide(wanted, found, keys.generate_private_key)
        self.folder.prepare()
        steps = 0
        for decision in decisions:
            self.shown += [decision.qr] if decision.qr else []
            for path, content in self.folder.contents(decision, b"png" if decision.qr else None).items():
                if kill_after is not None and steps >= kill_after:
                    raise KilledError
                steps += _handed_out.change_of(path, content, ()) is not None
                _handed_out.write(path, content)
        if kill_after is not None:
            raise KilledError
        self.tell([peer for decision in decisions for peer in decision.peers])
        return decisions

    def tell(self, peers: list[dict[str, Any]]) -> None:
        """The module peers at the hub, which refuses an address that another peer has."""
        gone = {peer["public_key"] for peer in peers if peer.get("state") == "absent"}
        self.hub = {key: value for key, value in self.hub.items() if key not in gone}
        for peer in peers:
            if "name" in peer:
                self.hub[peer["public_key"]] = (peer["name"], peer["allowed_ips"])
                assert peer["from_mesh_secret"]
                self.told_ids[peer["public_key"]] = peer.get("preshared_key_id")
        routes = [route for _name, its_routes in self.hub.values() for route in its_routes]
        assert len(routes) == len(set(routes))

    def keys_of(self, name: str) -> list[str]:
        return [key for key, (its_name, _routes) in self.hub.items() if its_name == name]

    def texts(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.path / "clients").iterdir())}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    assert site.keys_of("alice") == [ALICES]  # whatever a test does


def test_a_key_is_made_once_shown_once_and_registered(site: Site) -> None:
    (first,) = site.run(PHONE)
    before = site.texts()
    assert first.public_key == keys.public_key(
        str(conf.parse(site.file("phone.conf").read_text()).interface().private_key)
    )
    assert site.hub[first.public_key] == ("phone", ["192.168.7.50/32"])
    (second,) = site.run(PHONE)
    assert site.texts() == before
    assert len(site.shown) == 1
    assert second.public_key == first.public_key
    assert all(
        path.stat().st_mode & 0o777 == 0o600 for path in map(site.file, before) if path.name != ".gitignore"
    )
    assert site.file("").stat().st_mode & 0o777 == 0o700
    assert before[".gitignore"] == b"# private keys\n*.conf\n*.png\n"


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("there", [(), (".gitkeep",), ("phone.json", "phone.conf")])
def test_a_directory_that_has_nothing_else_is_closed_to_others_and_to_git(
    site: Site, there: tuple[str, ...]
) -> None:
    site.run(PHONE)
    for path in site.file("").iterdir():
        if path.name not in there:
            path.unlink()
    for name in there:
        site.file(name).touch(mode=0o600)
    site.file("").chmod(0o755)
    folder = site.folder
    gaps = folder.gaps()
    assert [(gap["before"], gap["after"]) for gap in gaps] == [
        ("mode 0755\n", "mode 0700\n"),
        ("", _handed_out.GITIGNORE),
    ]
    assert folder.has_only_devices()
    folder.protect()
    assert mode_of(site.file("")) == 0o700
    assert site.file(".gitignore").read_text() == _handed_out.GITIGNORE
    assert folder.gaps() == []


@pytest.mark.parametrize("other", ["hosts", "wg0.conf", "ssl/key", "x.json"])
def test_a_directory_with_other_things_is_nobodys_to_close(site: Site, other: str) -> None:
    site.run(PHONE)
    path = site.file(other)
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    assert not site.folder.has_only_devices()


def test_a_gitignore_of_the_users_own_and_a_closed_directory_are_left(site: Site) -> None:
    site.file("").mkdir(mode=0o700)
    site.file(".gitignore").write_text("*\n")
    assert site.folder.gaps() == []


def test_a_directory_directly_below_the_root_is_nobodys_to_close() -> None:
    assert not Folder("/mnt").has_only_devices()
    assert not Folder("/").has_only_devices()


OLD, NEW = keys.generate_private_key(), keys.generate_private_key()


def preshared_key_in_file(site: Site, name: str) -> str | None:
    """That of a device with the hub, of which the hub was told the id."""
    key = conf.parse(site.file(f"{name}.conf").read_text()).peers()[HUB_KEY].preshared_key
    (public_key,) = site.keys_of(name)
    assert site.told_ids[public_key] == (mesh_secret.preshared_key_id(key) if key else "")
    return key


@pytest.mark.parametrize("device", [PHONE, PC])
def test_a_device_keeps_its_preshared_key_as_long_as_its_key(site: Site, device: Device) -> None:
    site.run(device)
    assert preshared_key_in_file(site, device.name) is None
    site.mesh_secret = OLD
    assert not site.run(device, reissue=(device.name,))[0].outdated
    assert preshared_key_in_file(site, device.name) is None


def test_a_new_key_comes_with_a_preshared_key_of_the_newest_secret(site: Site) -> None:
    for secret in (OLD, NEW):
        site.mesh_secret = secret
        (decision,) = site.run(PHONE, again=("phone",))
        wanted = mesh_secret.preshared_key(secret, HUB_KEY, str(decision.public_key))
        assert preshared_key_in_file(site, "phone") == wanted
        assert f"PresharedKey = {wanted}" in site.shown[-1]
        assert wanted not in repr(decision)
        assert wanted not in repr(decision.peers)
        site.mesh_secret = NEW if secret == OLD else None
        assert not site.run(PHONE, reissue=("phone",))[0].outdated
        assert preshared_key_in_file(site, "phone") == wanted


def test_a_device_whose_file_is_not_here_any_more_keeps_the_preshared_key_that_the_hub_has(
    site: Site,
) -> None:
    site.mesh_secret = OLD
    (decision,) = site.run(PHONE)
    site.file("phone.conf").unlink()
    site.mesh_secret = NEW
    site.run(PHONE)
    assert site.told_ids[str(decision.public_key)] is None


@pytest.mark.parametrize("deleted", [["conf"], ["png"], ["conf", "png"]])
def test_files_that_were_handed_out_and_deleted_are_not_made_again(site: Site, deleted: list[str]) -> None:
    (first,) = site.run(PHONE)
    for suffix in deleted:
        site.file(f"phone.{suffix}").unlink()
    before = site.texts()
    (second,) = site.run(PHONE)
    assert second.public_key == first.public_key
    assert site.texts() == before
    assert site.keys_of("phone") == [first.public_key]
    assert len(site.shown) == 1


def test_another_controller_neither_makes_a_key_nor_drops_the_device(site: Site, tmp_path: Path) -> None:
    (first,) = site.run(PHONE)
    elsewhere = Site(tmp_path / "elsewhere", hub=site.hub)
    with pytest.raises(ValueError, match=r"device phone: the hub knows it already, .*regenerate=phone"):
        elsewhere.run(PHONE)
    assert elsewhere.keys_of("phone") == [first.public_key]
    (made,) = elsewhere.run(PHONE, again=("phone",))
    assert elsewhere.keys_of("phone") == [made.public_key]
    # The first controller now has files of a key that counts no more.
    site.hub = elsewhere.hub
    with pytest.raises(
        ValueError, match=r"device phone: the hub knows it with the key .*delete its files here"
    ):
        site.run(PHONE)


def test_regenerate_replaces_the_key_here_and_at_the_hub(site: Site) -> None:
    (first,) = site.run(PHONE)
    (second,) = site.run(PHONE, again=("phone",))
    assert second.public_key != first.public_key
    assert site.keys_of("phone") == [second.public_key]
    assert len(site.shown) == 2


CENTER = Device("center", "hub", addresses=("10.7.0.1/24",), endpoint="c.example.net:51820")
CENTRAL = Network(hub_addresses=CENTER.addresses, endpoint="c.example.net:51820", networks=("10.7.0.0/24",))
AROUND = (
    CENTER,
    Device("phone", addresses=("10.7.0.50/24",)),
    Device("tablet", addresses=("10.7.0.51/24",)),
    Device("pc", "windows", addresses=("10.7.0.52/24",), public_key=OWNERS),
)


def hub_in_file(site: Site, name: str) -> str:
    (key,) = conf.parse(site.file(f"{name}.conf").read_text()).peers()
    return key


def private_key_in_file(site: Site, name: str) -> str | None:
    return conf.parse(site.file(f"{name}.conf").read_text()).interface().private_key


@pytest.mark.parametrize("kill_after", [None, *range(7)])
def test_a_new_key_of_the_central_node_comes_with_new_files_for_all_that_keep_their_keys(
    tmp_path: Path, kill_after: int | None
) -> None:
    site = Site(tmp_path, CENTRAL)
    site.run(*AROUND)
    site.file("tablet.conf").unlink()
    mine = private_key_in_file(site, "phone")
    old, others = hub_in_file(site, "phone"), conf.parse(site.file("center.conf").read_text()).peers()
    if kill_after is not None:
        with pytest.raises(KilledError):
            site.run(*AROUND, again=("center",), kill_after=kill_after)
    decisions = site.run(*AROUND, again=("center",) if kill_after is None else ())
    new = decisions[0].public_key
    assert (new == old) == (kill_after == 0)
    assert hub_in_file(site, "phone") == hub_in_file(site, "pc") == new
    assert private_key_in_file(site, "phone") == mine
    assert conf.parse(site.file("center.conf").read_text()).peers() == others
    # Its private key is not here any more: it cannot be handed out again.
    assert [d.device.name for d in decisions if d.outdated] == (["tablet"] if new != old else [])
    shown, texts = len(site.shown), site.texts()
    site.run(*AROUND)
    assert (len(site.shown), site.texts()) == (shown, texts)


def test_a_new_key_of_a_hub_that_is_a_host_leaves_what_was_handed_out(site: Site) -> None:
    site.run(PHONE)
    site.hub_key = OTHERS
    before = site.texts()
    (decision,) = site.run(PHONE)
    assert decision.outdated
    assert site.texts() == before


def test_reissue_writes_and_shows_the_same_key_again(site: Site) -> None:
    (first,) = site.run(PHONE)
    before = site.texts()
    (second,) = site.run(PHONE, reissue=("phone",))
    assert site.texts() == before
    assert second.public_key == first.public_key
    assert site.shown == [site.shown[0]] * 2
    site.file("phone.conf").unlink()
    with pytest.raises(
        ValueError, match=r"device phone: its private key is not here any more.*regenerate=phone"
    ):
        site.run(PHONE, reissue=("phone",))


def test_what_a_file_would_say_now_is_written_when_told_and_else_warned_of(site: Site) -> None:
    site.run(PHONE)
    before = site.texts()
    moved = Device("phone", addresses=("192.168.7.60/24",))
    (decision,) = site.run(moved)
    assert decision.outdated
    assert site.texts() == before
    assert site.hub[str(decision.public_key)] == ("phone", ["192.168.7.60/32"])
    (decision,) = site.run(moved, reissue=("phone",))
    assert "Address = 192.168.7.60/24" in site.file("phone.conf").read_text()
    assert not site.run(moved)[0].outdated


def test_another_port_of_the_hub_is_warned_of_until_the_file_is_issued_again(site: Site) -> None:
    site.run(PHONE, PC)
    site.network = replace(NETWORK, endpoint="h.example.net:51821")
    assert [decision.outdated for decision in site.run(PHONE, PC)] == [True, False]
    assert "Endpoint = h.example.net:51821\n" in site.file("pc.conf").read_text()
    assert not site.run(PHONE, PC, reissue=("phone",))[0].outdated
    assert "Endpoint = h.example.net:51821\n" in site.file("phone.conf").read_text()
    assert "Endpoint = h.example.net:51821\n" in site.shown[-1]


def test_of_an_owners_key_only_the_public_one_is_known(site: Site) -> None:
    site.run(PC)
    assert "# PrivateKey = (" in site.file("pc.conf").read_text()
    assert site.keys_of("pc") == [OWNERS]
    moved = Device("pc", "windows", addresses=("192.168.7.60/24",), public_key=OTHERS)
    site.run(moved)
    assert site.keys_of("pc") == [OTHERS]
    assert "192.168.7.60/24" in site.file("pc.conf").read_text()
    assert site.shown == []
    with pytest.raises(ValueError, match=r"device pc: public_key .* was its owner's.*regenerate=pc"):
        site.run(Device("pc", "windows", addresses=("192.168.7.60/24",)))


def shown(path: Path, content: bytes | None, *public_keys: str) -> tuple[str, str]:
    entry = _handed_out.change_of(str(path), content, public_keys)
    assert entry
    return entry["before"], entry["after"]


def test_a_difference_shows_the_sentence_that_stands_in_for_the_owners_key_and_never_a_key(
    site: Site,
) -> None:
    site.run(PC)
    path = site.file("pc.conf")
    text = path.read_text()
    sentence = f"# PrivateKey = (the owner writes it here; its public key is {OWNERS})"
    assert shown(path, None, OWNERS) == (text, "")
    assert sentence in text
    private_key = keys.generate_private_key()
    for written in (f"PrivateKey = {private_key}", sentence.replace(OWNERS, private_key)):
        path.write_text(text.replace(sentence, written))
        before, after = shown(path, text.encode(), OWNERS)
        assert private_key not in before
        assert after == text


def test_a_key_that_was_made_here_is_not_replaced_by_writing_another(site: Site) -> None:
    site.run(PHONE)
    with pytest.raises(ValueError, match=r"device phone: public_key .* of another key.*state: absent"):
        site.run(Device("phone", addresses=PHONE.addresses, public_key=OWNERS))


def test_a_file_in_which_the_owner_wrote_the_private_key_is_left_alone(site: Site) -> None:
    private_key = keys.generate_private_key()
    device = Device("pi", "linux", addresses=("192.168.7.52/24",), public_key=keys.public_key(private_key))
    site.run(device)
    path = site.file("pi.conf")
    path.write_text(path.read_text().replace("[Interface]\n", f"[Interface]\nPrivateKey = {private_key}\n"))
    text = path.read_text()
    (decision,) = site.run(
        Device("pi", "linux", addresses=("192.168.7.53/24",), public_key=device.public_key)
    )
    assert decision.outdated
    assert path.read_text() == text


def test_revoking_removes_the_peer_and_the_files_and_a_second_time_nothing(site: Site) -> None:
    site.run(PHONE, PC)
    site.run(GONE, PC)
    assert site.keys_of("phone") == []
    assert sorted(site.texts()) == [".gitignore", "pc.conf", "pc.json"]
    (decision, _) = site.run(GONE, PC)
    assert decision.peers == []


def test_revoking_works_where_the_files_are_not_and_never_takes_a_host(site: Site, tmp_path: Path) -> None:
    site.run(PHONE)
    elsewhere = Site(tmp_path / "elsewhere", hub=site.hub)
    elsewhere.run(Device("phone", state="absent", public_key=ALICES))
    assert list(elsewhere.hub) == [ALICES]


def test_an_address_of_a_revoked_device_can_be_given_to_another_in_the_same_run(site: Site) -> None:
    site.run(PHONE)
    site.run(GONE, Device("tablet", addresses=PHONE.addresses))
    assert site.keys_of("phone") == []
    assert len(site.keys_of("tablet")) == 1


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            Device("phone", addresses=("192.168.7.5/24",)),
            "address 192.168.7.5/32 is that of alice at the hub",
        ),
        (Device("phone", addresses=("192.168.7.8/24",), public_key=ALICES), "is that of alice at the hub"),
        (Device("phone", addresses=("192.168.7.8/24",), public_key=HUB_KEY), "is the hub's"),
    ],
)
def test_what_a_peer_of_the_hub_has_is_not_given_away(site: Site, device: Device, message: str) -> None:
    with pytest.raises(ValueError, match=f"device phone: .*{message}"):
        site.run(device)
    assert not site.file("").exists()


RENAMED = replace(NETWORK, hub="center")


@pytest.mark.parametrize("deleted", [[], ["phone.conf", "phone.png"]])
def test_a_hub_with_another_name_knows_its_devices_by_their_keys(site: Site, deleted: list[str]) -> None:
    (first,) = site.run(PHONE)
    for name in deleted:
        site.file(name).unlink()
    site.network = RENAMED
    (second,) = site.run(PHONE)
    assert (second.public_key, second.conf, second.outdated) == (first.public_key, None, False)
    record = site.folder.read("phone").record
    assert first.record
    assert record == replace(first.record, network="center")
    # From then on by its name again: the hub may get another key.
    site.hub_key, site.hub = OTHERS, {ALICES: site.hub[ALICES]}
    assert site.run(PHONE)[0].outdated
    assert site.folder.read("phone").record == record
    assert len(site.shown) == 1


def test_a_hub_with_another_name_that_has_forgotten_its_peers_is_known_by_its_key(site: Site) -> None:
    (first,) = site.run(PHONE)
    site.network, site.hub = RENAMED, {ALICES: site.hub[ALICES]}
    assert site.run(PHONE)[0].public_key == first.public_key
    assert site.keys_of("phone") == [first.public_key]


def test_the_directory_of_another_network_is_refused_until_the_device_is_named(
    site: Site, tmp_path: Path
) -> None:
    (first,) = site.run(PHONE)
    other = Site(tmp_path, network=RENAMED, hub_key=OTHERS)
    with pytest.raises(
        ValueError,
        match=r"files are of the network of hub, .*: write another wg_client_config_dir.*reissue=phone",
    ):
        other.run(PHONE)
    assert other.run(PHONE, reissue=("phone",))[0].public_key == first.public_key
    assert hub_in_file(other, "phone") == OTHERS


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("phone.json", b"{", "phone.json is damaged: restore it"),
        ("phone.json", b'{"a": 1}', "phone.json is damaged: restore it"),
        ("phone.conf", b"\xff", "phone.conf is not UTF-8"),
        ("phone.conf", b"[Interface]\nPrivateKey = SECRET\n", "phone.conf is damaged"),
        ("phone.conf", b"[Interface]\n[Interface]\n", "phone.conf is damaged"),
    ],
)
def test_a_damaged_file_is_an_error_and_stays(site: Site, file: str, content: bytes, message: str) -> None:
    site.run(PHONE)
    site.file(file).write_bytes(content)
    with pytest.raises(NodeError, match=message) as caught:
        site.run(PHONE)
    assert "SECRET" not in str(caught.value)
    assert site.file(file).read_bytes() == content


def test_a_private_key_that_others_can_read_is_an_error(site: Site) -> None:
    site.run(PHONE)
    site.file("phone.conf").chmod(0o644)
    with pytest.raises(NodeError, match=r"mode 0644, .*chmod 600 .*phone.conf.*regenerate=phone"):
        site.run(PHONE)


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 4))
def test_a_regeneration_that_is_killed_is_finished_by_the_next_run(first: int, second: int) -> None:
    with TemporaryDirectory() as directory:
        site = Site(Path(directory))
        (old,) = site.run(PHONE)
        with pytest.raises(KilledError):
            site.run(PHONE, again=("phone",), kill_after=first)
        with pytest.raises(KilledError):
            site.run(PHONE, kill_after=second)
        (decision,) = site.run(PHONE)
        assert site.keys_of("phone") == [decision.public_key]
        assert (decision.public_key == old.public_key) == (first == 0)
        assert site.folder.read("phone").record
        texts = site.texts()
        site.run(PHONE)
        assert site.texts() == texts


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["run", "regenerate", "reissue", "delete conf", "delete png", "revoke", "move"]),
        st.none() | st.integers(0, 4),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
def test_a_key_only_changes_when_that_was_asked_for(operations: list[tuple[str, int | None]]) -> None:
    with TemporaryDirectory() as directory:
        site = Site(Path(directory))
        device = PHONE
        site.run(device)
        (key,) = site.keys_of("phone")
        may_change = False
        for number, (operation, kill_after) in enumerate(operations):
            has_private_key = site.file("phone.conf").exists()
            if operation.startswith("delete"):
                site.file(f"phone.{operation.split()[1]}").unlink(missing_ok=True)
                continue
            if operation == "move":
                device = Device("phone", addresses=(f"192.168.7.{60 + number}/24",))
            if operation == "reissue" and not has_private_key:
                continue
            listed = GONE if operation == "revoke" else device
            may_change |= operation in ("revoke", "regenerate")
            asked = {"regenerate": {"again": ("phone",)}, "reissue": {"reissue": ("phone",)}}.get(
                operation, {}
            )
            try:
                # A revocation that is killed is to be run again; what is listed meanwhile is refused.
                kill = None if operation == "revoke" else kill_after
                site.run(listed, kill_after=kill, **asked)
            except KilledError:
                continue
            if operation == "revoke":
                assert site.keys_of("phone") == []
        site.run(device)
        (now,) = site.keys_of("phone")
        assert may_change or now == key
        assert list(site.hub[now][1]) == device.routes


def read_back(path: Path) -> str:
    done = subprocess.run(["zbarimg", "--quiet", "--raw", path], capture_output=True, text=True, check=True)
    return done.stdout


@settings(max_examples=5, deadline=None)
@given(strategies.keys)
def test_a_qr_code_is_read_back_from_the_picture_and_from_the_terminal(private_key: str) -> None:
    text = f"[Interface]\nPrivateKey = {private_key}\n# more\nAddress = 192.168.7.50/24, fd00:7::50/64\n" * 3
    with TemporaryDirectory() as directory:
        picture = Path(directory) / "code.png"
        picture.write_bytes(_handed_out.qr_png(text))
        assert read_back(picture) == text
        screen = Path(directory) / "screen.pgm"
        screen.write_text(photograph(_handed_out.qr_terminal(text)))
        assert read_back(screen) == text


def photograph(printed: str, scale: int = 4) -> str:
    """A picture of what a terminal shows: two modules in each character, a full block is bright."""
    rows: list[list[int]] = []
    for line in printed.splitlines():
        assert line.startswith("\x1b[97;40m")
        assert line.endswith("\x1b[0m")
        characters = line.removeprefix("\x1b[97;40m").removesuffix("\x1b[0m")
        for bright in ("█▀", "█▄"):
            row = [255 if character in bright else 0 for character in characters for _ in range(scale)]
            rows += [row] * scale
    numbers = "\n".join(" ".join(map(str, row)) for row in rows)
    return f"P2\n{len(rows[0])} {len(rows)}\n255\n{numbers}\n"
