"""The parts of a local cluster that need neither root nor a compiled Kubernetes."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import tarfile
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster import Cluster, ClusterError, host, image, packages, runtime
from e2e.cluster.__main__ import main
from e2e.cluster.certificates import Authority
from e2e.cluster.cgroups import Group
from e2e.cluster.errors import UnfitError
from e2e.cluster.network import MAX_NODES, RANGE, SLOTS, Subnets, choose_slot
from e2e.cluster.ports import RANGE as PORTS
from e2e.cluster.ports import free_ports
from e2e.cluster.processes import Daemon
from e2e.cluster.waiting import wait_until

slots = st.integers(0, SLOTS - 1)


@given(slots, slots)
def test_clusters_share_no_address_and_none_is_a_real_network_s(one: int, other: int) -> None:
    first, second = Subnets(one).network, Subnets(other).network
    assert first.subnet_of(RANGE)
    assert (one == other) or not first.overlaps(second)


@given(slots)
def test_parts_of_a_cluster_do_not_overlap(slot: int) -> None:
    subnets = Subnets(slot)
    pods = [ipaddress.ip_network(subnets.pods(index)) for index in range(1, MAX_NODES + 1)]
    addresses = [subnets.host, subnets.dns, *(subnets.node(index) for index in range(1, MAX_NODES + 1))]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in subnets.network for address in addresses)
    assert not any(ipaddress.ip_address(address) in network for network in pods for address in addresses)
    assert ipaddress.ip_address(subnets.dns) in ipaddress.ip_network(subnets.services)


@given(st.sets(slots))
def test_a_slot_is_one_that_nobody_has(taken: set[int]) -> None:
    if len(taken) < SLOTS:
        assert choose_slot(taken) not in taken
    else:
        with pytest.raises(ClusterError, match="taken by other clusters"):
            choose_slot(taken)


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    found = free_ports(5)
    assert len(set(found)) == 5
    assert all(port in PORTS for port in found)
    with socket.create_server(("127.0.0.1", found[0])):
        assert found[0] not in free_ports(50)


def test_a_daemon_is_found_again_by_its_file_and_stops(tmp_path: Path) -> None:
    first = Daemon("sleeper", tmp_path)
    first.start(["sleep", "600"])
    again = Daemon("sleeper", tmp_path)
    assert again.pid == first.pid
    first.stop()
    assert again.pid is None


def test_a_daemon_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    daemon = Daemon("stubborn", tmp_path)
    daemon.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 600; done"])
    wait_until(lambda: "ready" in daemon.last_words(), what="the shell to start", timeout=10)
    pid = daemon.pid
    assert pid is not None
    daemon.stop(grace=0.1)
    assert daemon.pid is None
    os.killpg(pid, signal.SIGKILL)  # the sleep that the shell left


def test_a_reused_process_id_is_not_the_daemon(tmp_path: Path) -> None:
    daemon = Daemon("old", tmp_path)
    (tmp_path / "old.pid").write_text(json.dumps([os.getpid(), 1]))
    assert daemon.pid is None
    daemon.stop()  # and so this test survives


def test_waiting_says_for_what() -> None:
    with pytest.raises(ClusterError, match=r"waited 0.01 s for the moon"):
        wait_until(lambda: False, what="the moon", timeout=0.01, period=0.005)


def test_a_kubeconfig_s_certificate_names_user_and_groups(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.create()
    path = authority.kubeconfig(tmp_path / "me.kubeconfig", server="https://127.0.0.1:1", user="me", groups=["us"])
    issued = x509.load_pem_x509_certificate((tmp_path / "me.crt").read_bytes())
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.read_bytes()))
    assert issued.subject.rfc4514_string() == "CN=me,O=us"
    assert json.loads(path.read_text())["users"][0]["name"] == "me"
    assert not any(file.stat().st_mode & 0o077 for file in tmp_path.iterdir()), "keys are their owner's"


def test_the_image_is_whole_and_small(tmp_path: Path) -> None:
    (tmp_path / "pause").write_bytes(b"\x7fELF")
    image.write(tmp_path / "image.tar", tmp_path)
    with tarfile.open(tmp_path / "image.tar") as tar:
        blobs = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    index = json.loads(blobs["index.json"])
    assert [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]] == [
        image.LOCAL,
        image.PAUSE,
    ]
    for each in index["manifests"]:
        manifest = json.loads(blobs[f"blobs/sha256/{each['digest'].removeprefix('sha256:')}"])
        for part in (manifest["config"], *manifest["layers"]):
            assert len(blobs[f"blobs/sha256/{part['digest'].removeprefix('sha256:')}"]) == part["size"]
    assert (tmp_path / "image.tar").stat().st_size < 40_000


def test_loans_cover_python_and_the_tree_once_each(tmp_path: Path) -> None:
    lent = image.loans(tmp_path)
    for needed in (os.path.realpath(os.sys.executable), os.sys.prefix, str(image.SOURCES), os.__file__):  # type: ignore[attr-defined]
        assert any(Path(needed).is_relative_to(place) for place in lent), needed
    places = [Path(place) for place in lent]
    assert not any(one in other.parents for one in places for other in places)
    assert lent[image.PROGRAMS] == str(tmp_path)


def test_a_folder_that_others_cannot_enter_is_found(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o700)
    assert image.unreadable([tmp_path / "open", tmp_path / "closed"]) == [tmp_path / "closed"]


def test_containers_keep_their_own_mounts_beside_what_is_lent() -> None:
    default = json.dumps({"mounts": [{"destination": "/proc"}]})
    mounts = json.loads(runtime.container_spec(default, {"/usr": "/usr"}))["mounts"]
    assert [mount["destination"] for mount in mounts] == ["/proc", "/usr"]
    assert "ro" in mounts[1]["options"]


def test_apt_s_status_lines_move_the_bar() -> None:
    assert packages.progress("dlstatus:1:50.0:Retrieving file 1 of 2") == 50
    assert packages.progress("pmstatus:runc:40.0:Unpacking runc") == 140
    assert packages.progress("Setting up runc ...") is None
    assert packages.progress("pmstatus:odd:line") is None


def test_the_machine_is_put_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, made = tmp_path / "settings", tmp_path / "made"
    settings.write_text("0\n")
    monkeypatch.setattr(host, "SETTINGS", (str(settings),))
    monkeypatch.setattr(host, "MOUNT_POINTS", (made,))
    note = host.Host(tmp_path / "note.json")
    note.prepare()
    settings.write_text("1\n")
    note.prepare()  # of a second cluster: what the first one noted stays
    assert made.is_dir()
    assert len(note.leftovers()) == 3
    note.restore()
    assert settings.read_text().strip() == "0"
    assert not made.exists()
    assert note.leftovers() == []


def test_control_groups_of_version_2_pass_their_controllers_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounts").write_text(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    monkeypatch.setattr("e2e.cluster.cgroups.MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr("e2e.cluster.cgroups.ROOT", tmp_path)
    Group("coxswain.x/node-1").create()
    assert (tmp_path / "coxswain.x" / "node-1").is_dir()
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


@pytest.mark.parametrize(
    ("name", "nodes", "said"), [("Bad", 3, "name 'Bad'"), ("a/b", 3, "name"), ("ok", 15, "1 to 14")]
)
def test_a_cluster_that_cannot_be_is_refused(name: str, nodes: int, said: str) -> None:
    with pytest.raises(UnfitError, match=said):
        Cluster(name=name, nodes=nodes)


def test_the_command_line_explains_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["status", "--name", "absent"]) == 1
    assert "no cluster 'absent' is up" in capsys.readouterr().err
    assert main(["up", "--name", "Bad"]) == 2
    monkeypatch.setattr("e2e.cluster.cluster.os.geteuid", lambda: 1000)
    assert main(["up", "--name", "absent"]) == 2
    assert "needs root" in capsys.readouterr().err


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "SEARCH", "/nonexistent")
    monkeypatch.setattr(packages, "CNI_DIRECTORIES", ())
    assert packages.missing() == sorted({*packages.COMMANDS.values(), "containernetworking-plugins"})
